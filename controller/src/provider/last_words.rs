//! The last lines that a program wrote to standard error before it failed.

use std::time::Duration;

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    sync::watch,
    time::timeout,
};

/// Number of lines to keep.
const LINES: usize = 2;
/// How long to wait for the end of standard error after the program has exited: its children may keep it open forever.
const CLOSING: Duration = Duration::from_millis(500);

/// A program's standard error, read continuously, so that the program never blocks on it.
pub(super) struct LastWords(watch::Receiver<Vec<String>>);

impl LastWords {
    /// Starts to read `stderr` in a task.
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

    /// The last lines, joined by `; `; empty if there were none. Call this after the program has exited.
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
