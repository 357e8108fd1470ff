//! Command lines, read by a thread of their own: reading `/proc/PID/cmdline` touches the other process's memory and
//! can block for as long as that is locked or swapped out. Only command lines may come late then, never samples.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use proto::history::Identity;

/// Bytes of a command line that are kept.
const MAX_BYTES: u64 = 4096;

/// Requests that may wait; one too many is simply made again at the next sweep.
const QUEUE: usize = 1024;

/// A command line that has been read; absent if there is none.
pub(super) type Reply = (Identity, Option<Arc<str>>);

/// The thread that reads command lines. It ends with this handle, unless it is stuck.
#[derive(Debug)]
pub(super) struct Commands {
    requests: SyncSender<Identity>,
    replies: Receiver<Reply>,
    outstanding: usize,
    stuck: bool,
}

impl Commands {
    /// Starts the thread.
    pub(super) fn start(proc: &Path) -> io::Result<Self> {
        let (requests, queue) = sync_channel::<Identity>(QUEUE);
        let (reply, replies) = channel();
        let proc = proc.to_path_buf();
        let serve = move || {
            for identity in queue {
                if reply.send((identity, read(&proc, identity.pid))).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name("command-lines".into()).stack_size(64 << 10).spawn(serve)?;
        Ok(Self { requests, replies, outstanding: 0, stuck: false })
    }

    /// Asks for a command line; false if too many are waiting.
    pub(super) fn request(&mut self, identity: Identity) -> bool {
        match self.requests.try_send(identity) {
            Ok(()) => {
                self.outstanding += 1;
                true
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    /// Hands over what has been read, waiting at most `patience` for the rest; not at all if the last wait was in vain.
    pub(super) fn collect(&mut self, patience: Duration, mut take: impl FnMut(Reply)) {
        let until = Instant::now() + patience;
        while self.outstanding > 0 {
            let reply = match self.replies.try_recv() {
                Ok(reply) => Some(reply),
                Err(TryRecvError::Empty) if !self.stuck => {
                    self.replies.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
                }
                Err(_) => return,
            };
            let Some(reply) = reply else {
                self.stuck = true;
                return;
            };
            self.outstanding -= 1;
            take(reply);
        }
        self.stuck = false;
    }
}

fn read(proc: &Path, pid: u32) -> Option<Arc<str>> {
    let path: PathBuf = proc.join(format!("{pid}/cmdline"));
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    parse(&bytes)
}

/// Joins arguments with spaces. Absent if there are none, as for kernel threads.
fn parse(bytes: &[u8]) -> Option<Arc<str>> {
    let spaced: Vec<u8> = bytes.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
    let text = String::from_utf8_lossy(spaced.trim_ascii_end());
    (!text.is_empty()).then(|| Arc::from(text.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_joined_and_padding_is_dropped() {
        assert_eq!(parse(b"/usr/sbin/apache2\0-k\0start\0").as_deref(), Some("/usr/sbin/apache2 -k start"));
        assert_eq!(parse(b"postgres: writer\0\0\0\0").as_deref(), Some("postgres: writer"));
        assert_eq!(parse(b"\0"), None);
        assert_eq!(parse(b"caf\xe9\0").as_deref(), Some("caf\u{fffd}"));
    }

    #[test]
    fn a_process_without_a_command_line_is_answered_too() {
        let mut commands = Commands::start(Path::new("/proc")).unwrap();
        let own = Identity { pid: std::process::id(), started_ns: 1 };
        let nobody = Identity { pid: u32::MAX, started_ns: 2 };
        assert!(commands.request(own) && commands.request(nobody));
        let mut replies = Vec::new();
        commands.collect(Duration::from_secs(60), |reply| replies.push(reply));
        assert_eq!(replies.len(), 2);
        assert!(replies[0].1.as_deref().is_some_and(|command| command.contains("agent")));
        assert_eq!(replies[1], (nobody, None));
    }
}
