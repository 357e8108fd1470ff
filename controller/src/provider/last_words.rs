//! What a program said last before it failed.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    sync::watch,
    time::timeout,
};

/// How many lines are told.
const LINES: usize = 2;
/// How long a program that has ended may keep its standard error open: what it started may do so for ever.
const CLOSING: Duration = Duration::from_millis(500);

/// A program's standard error, read as it comes, so that it never waits for a reader.
pub(super) struct LastWords(watch::Receiver<Vec<String>>);

impl LastWords {
    /// Begins to read.
    pub(super) fn of(stderr: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (tell, said) = watch::channel(Vec::new());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                if !line.is_empty() {
                    tell.send_modify(|said: &mut Vec<String>| {
                        said.push(line);
                        said.drain(..said.len().saturating_sub(LINES));
                    });
                }
            }
        });
        Self(said)
    }

    /// The last lines as one; empty if nothing was said. For a program that has ended.
    pub(super) async fn told(mut self) -> String {
        let _ = timeout(CLOSING, self.0.wait_for(|_| false)).await;
        self.0.borrow().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_many_lines_the_last_are_told() {
        assert_eq!(
            LastWords::of(b"one\ntwo\r\n\nthree \xff\n".as_slice()).told().await,
            "two; three \u{fffd}"
        );
        assert_eq!(LastWords::of(b"only".as_slice()).told().await, "only");
        assert_eq!(LastWords::of(b"\n".as_slice()).told().await, "");
    }
}
