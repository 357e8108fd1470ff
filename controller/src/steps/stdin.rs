//! What a command on hosts is given to read: the standard input of `ctl`.

use std::{
    io::{self, IsTerminal, Read},
    time::Duration,
};

use proto::MAX_STDIN_BYTES;
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    error::{Error, Result},
    render::Output,
};

/// After this long somebody should know what is waited for.
const SILENCE: Duration = Duration::from_secs(1);

/// Reads standard input to its end; empty if it is a terminal, where somebody would have to know that it waits for him.
///
/// # Errors
/// When it cannot be read, or is longer than a host accepts.
pub(crate) async fn read(output: &Output) -> Result<Vec<u8>> {
    if io::stdin().is_terminal() {
        return Ok(Vec::new());
    }
    let mut reading = spawn_blocking(|| read_bounded(io::stdin().lock()));
    let done = match timeout(SILENCE, &mut reading).await {
        Ok(done) => done,
        Err(_) => {
            output.note("waiting for the end of standard input; `ctl run -n` gives the command none");
            reading.await
        }
    };
    done.map_err(|lost| Error::invalid(format!("cannot read standard input: {lost}")))?
}

fn read_bounded(input: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = input.take(MAX_STDIN_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| {
        Error::invalid(format!("cannot read standard input: {error}"))
            .hint("`ctl run -n` gives the command no standard input")
    })?;
    if bytes.len() > MAX_STDIN_BYTES {
        let limit = MAX_STDIN_BYTES >> 20;
        return Err(Error::invalid(format!(
            "standard input is longer than the {limit} MiB that a host accepts"
        ))
        .hint("bring larger files to the hosts with Puppet, or let the command fetch them"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_or_an_error() {
        assert_eq!(read_bounded(&b"one\0"[..]).unwrap(), b"one\0");
        assert_eq!(read_bounded(io::repeat(7).take(MAX_STDIN_BYTES as u64)).unwrap().len(), MAX_STDIN_BYTES);
        let refused = read_bounded(io::repeat(7)).unwrap_err();
        assert_eq!(refused.to_string(), "standard input is longer than the 4 MiB that a host accepts");
    }
}
