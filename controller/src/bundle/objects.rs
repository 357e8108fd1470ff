//! Reads committed contents from git's object store with `git cat-file --batch`.

use std::{
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    thread,
};

use super::git::Checkout;
use crate::error::{Error, Result};

/// Passes each of `objects` to `take`, in order: its index, and a reader for its content.
///
/// # Errors
/// An object is missing or is not a blob, git fails, or `take` fails.
pub(super) fn each(
    checkout: &Checkout,
    objects: &[&str],
    mut take: impl FnMut(usize, &mut dyn Read) -> io::Result<()>,
) -> Result<()> {
    if objects.is_empty() {
        return Ok(());
    }
    let failed = |error: io::Error| Error::invalid(format!("cannot read from git's object store: {error}"));
    let mut child = checkout.objects().spawn().map_err(failed)?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let read = thread::scope(|scope| {
        // Write in another thread: git answers while it reads, so writing everything first would deadlock.
        scope.spawn(move || {
            let mut input = BufWriter::new(input.expect("piped"));
            // If git has exited, its output ends too early, which is reported below.
            let _ = objects.iter().try_for_each(|object| writeln!(input, "{object}"));
        });
        let mut output = BufReader::with_capacity(128 << 10, output.expect("piped"));
        let read = (0..objects.len())
            .try_for_each(|index| one(&mut output, objects[index], |blob| take(index, blob)));
        drop(output);
        read
    });
    child.wait().map_err(failed)?;
    read.map_err(failed)
}

/// Reads one answer: `<object> blob <size>`, a newline, the bytes, a newline (`git-cat-file(1)`, "BATCH OUTPUT").
fn one(
    output: &mut impl BufRead,
    object: &str,
    take: impl FnOnce(&mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    let mut head = String::new();
    output.read_line(&mut head)?;
    let size = head.strip_prefix(object).and_then(|rest| rest.strip_prefix(" blob "));
    let size: u64 = size.and_then(|size| size.trim_end().parse().ok()).ok_or_else(|| {
        io::Error::other(format!("asked for {object}, git answered `{}`", head.trim_end().escape_debug()))
    })?;
    let mut blob = output.take(size);
    take(&mut blob)?;
    io::copy(&mut blob, &mut io::sink())?;
    let missing = blob.limit();
    let mut newline = [0];
    output.read_exact(&mut newline)?;
    if missing == 0 && newline == *b"\n" {
        Ok(())
    } else {
        Err(io::Error::other(format!("{object} is truncated")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(mut bytes: &[u8]) -> std::result::Result<(String, usize), String> {
        let mut text = String::new();
        one(&mut bytes, "abc", |blob| blob.read_to_string(&mut text).map(drop))
            .map_err(|error| error.to_string())?;
        Ok((text, bytes.len()))
    }

    #[test]
    fn an_answer_is_read_to_its_end_and_no_further() {
        assert_eq!(answer(b"abc blob 5\nhello\nabc blob"), Ok(("hello".to_owned(), 8)));
        assert_eq!(answer(b"abc blob 0\n\n"), Ok((String::new(), 0)));
        assert_eq!(answer(b"abc missing\n"), Err("asked for abc, git answered `abc missing`".to_owned()));
        assert_eq!(
            answer(b"abc commit 3\nxyz\n"),
            Err("asked for abc, git answered `abc commit 3`".to_owned())
        );
        assert!(answer(b"abc blob 5\nhel").is_err());
        assert!(answer(b"").is_err());
    }
}
