//! Reads the standard input of `ctl`, to pass it to a command on hosts.

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

/// After this long, print a note that `ctl` waits for standard input.
const SILENCE: Duration = Duration::from_secs(1);

/// Reads standard input to its end. Returns nothing if it is a terminal, so that `ctl` never waits for the user to
/// type.
///
/// # Errors
/// Standard input cannot be read, or is longer than a host accepts.
pub(crate) async fn read(output: &Output) -> Result<Vec<u8>> {
    if io::stdin().is_terminal() {
        return Ok(Vec::new());
    }
    let mut reading = spawn_blocking(|| read_bounded(io::stdin().lock()));
    let done = match timeout(SILENCE, &mut reading).await {
        Ok(done) => done,
        Err(_) => {
            output.note(
                "waiting for the end of standard input; `ctl run -n` runs the command without standard input",
            );
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
            .hint("`ctl run -n` runs the command without standard input")
    })?;
    if bytes.len() > MAX_STDIN_BYTES {
        let limit = MAX_STDIN_BYTES >> 20;
        return Err(Error::invalid(format!(
            "standard input is longer than the {limit} MiB that a host accepts"
        ))
        .hint("use Puppet for larger files, or let the command download them"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_read_completely_or_refused() {
        assert_eq!(read_bounded(&b"one\0"[..]).unwrap(), b"one\0");
        assert_eq!(read_bounded(io::repeat(7).take(MAX_STDIN_BYTES as u64)).unwrap().len(), MAX_STDIN_BYTES);
        let refused = read_bounded(io::repeat(7)).unwrap_err();
        assert_eq!(refused.to_string(), "standard input is longer than the 4 MiB that a host accepts");
    }
}
