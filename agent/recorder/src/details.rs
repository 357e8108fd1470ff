//! Reads what may block or take long, on a separate thread: command lines, cgroups, user names, file systems, counters of
//! control groups, and kernel stacks.
//!
//! Reading `/proc/PID/cmdline` touches the other process's memory and can wait for as long as that is locked or swapped
//! out; statvfs(2) can wait for a broken disk. This may delay details, but never samples. The sampling thread never
//! allocates here, nor does this thread while nothing changes.

use std::{
    borrow::Cow,
    io, mem,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use record::{Filesystem, Group, Identity, Process};

use super::{
    clock::Moment,
    groups::Groups,
    host::{ControlGroups, filesystems},
    nanoseconds,
    proc::Directory,
    stacks,
    table::{Table, Wants},
    users::{PasswordFile, Users},
};

/// Maximum length of a stored command line, in bytes.
const MAX_COMMAND_BYTES: usize = 4096;

/// Maximum number of waiting requests; the rest is requested again at the next sweep.
const QUEUE: usize = 1024;

/// Interval for reading file systems and users.
const HOST_EVERY: Duration = Duration::from_secs(10);
/// Interval for reading file systems while one is nearly full.
const FULL_EVERY: Duration = Duration::from_secs(1);
/// A file system is nearly full with less than this share free, in percent.
const FULL_PERCENT: u64 = 5;
/// Interval for reading control groups, and the same under memory pressure.
const GROUPS_EVERY: Duration = Duration::from_secs(5);
const GROUPS_UNDER_PRESSURE: Duration = Duration::from_secs(1);
/// Interval for reading kernel stacks.
const STACKS_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Request {
    /// With the known command line and cgroup.
    Process(Identity, Wants, [Option<Arc<str>>; 2]),
    /// Details that belong to no process.
    Host,
    /// Counters of control groups, into this list.
    Groups(Vec<Group>),
    /// Kernel stacks of these tasks.
    Stacks(Vec<(u32, Arc<str>)>),
}

#[derive(Debug)]
enum Reply {
    Process(Identity, News),
    /// With the users, if they have changed.
    Host(Vec<Filesystem>, Option<Users>),
    Groups(Vec<Group>),
    Stacks(String),
}

/// New details of a process.
#[derive(Debug, PartialEq, Eq)]
struct News {
    command: Option<Arc<str>>,
    cgroup: Option<Arc<str>>,
}

/// The thread that reads details. Ends when this handle is dropped, unless it is blocked.
#[derive(Debug)]
pub(super) struct Details {
    requests: SyncSender<Request>,
    replies: Receiver<Reply>,
    outstanding: usize,
    stuck: bool,
    filesystems: Vec<Filesystem>,
    host_asked: Option<Instant>,
    groups: Vec<Group>,
    /// The list for the next reading, to reuse its memory; `None` while it is being filled.
    spare_groups: Option<Vec<Group>>,
    groups_asked: Option<Instant>,
    stacks: Option<String>,
    stacks_asked: Option<Instant>,
}

impl Details {
    /// Starts the thread.
    pub(super) fn start(proc: &Path, passwd: &Path, groups: &ControlGroups) -> io::Result<Self> {
        let (requests, queue) = sync_channel(QUEUE);
        let (reply, replies) = sync_channel(QUEUE);
        let mut reader = Reader::open(proc, passwd, groups)?;
        let serve = move || {
            for request in queue {
                if reply.send(reader.answer(request)).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name("details".into()).stack_size(128 << 10).spawn(serve)?;
        Ok(Self {
            requests,
            replies,
            outstanding: 0,
            stuck: false,
            filesystems: Vec::new(),
            host_asked: None,
            groups: Vec::new(),
            spare_groups: Some(Vec::new()),
            groups_asked: None,
            stacks: None,
            stacks_asked: None,
        })
    }

    /// Requests what the table wants, and stores the replies; waits at most `patience` for more replies, and not at
    /// all if the previous wait was in vain.
    pub(super) fn exchange(&mut self, table: &mut Table, patience: Duration) {
        let now = Instant::now();
        let host_every = if self.filesystems.iter().any(is_nearly_full) { FULL_EVERY } else { HOST_EVERY };
        if is_due(self.host_asked, now, host_every) && self.ask(Request::Host) {
            self.host_asked = Some(now);
        }
        let groups_every = if patience.is_zero() { GROUPS_UNDER_PRESSURE } else { GROUPS_EVERY };
        if is_due(self.groups_asked, now, groups_every)
            && let Some(spare) = self.spare_groups.take()
        {
            // If the queue is full, the list is lost.
            if self.ask(Request::Groups(spare)) {
                self.groups_asked = Some(now);
            } else {
                self.spare_groups = Some(Vec::new());
            }
        }
        let mut ask = |process: &Process, wants| {
            let known = [&process.command, &process.cgroup].map(Clone::clone);
            self.ask(Request::Process(process.identity, wants, known))
        };
        table.ask(&mut ask);
        // Under pressure, read only what is still unknown.
        if !patience.is_zero() {
            table.ask_in_turn(ask);
        }
        self.collect(table, now + patience);
    }

    /// The file systems at the last reading; empty before the first.
    pub(super) fn filesystems(&self) -> &[Filesystem] {
        &self.filesystems
    }

    /// The control groups at the last reading; empty before the first.
    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Requests the kernel stacks of tasks that wait uninterruptibly, at most once a second.
    pub(super) fn ask_stacks(&mut self, processes: &[Process]) {
        let now = Instant::now();
        if !is_due(self.stacks_asked, now, STACKS_EVERY) {
            return;
        }
        let tasks: Vec<_> = stacks::waiting(processes)
            .map(|process| (process.identity.pid, Arc::clone(&process.comm)))
            .collect();
        if !tasks.is_empty() && self.ask(Request::Stacks(tasks)) {
            self.stacks_asked = Some(now);
        }
    }

    /// The stacks that have been read since the last call.
    pub(super) fn take_stacks(&mut self) -> Option<String> {
        self.stacks.take()
    }

    fn ask(&mut self, request: Request) -> bool {
        let asked = self.outstanding < QUEUE && self.requests.try_send(request).is_ok();
        self.outstanding += usize::from(asked);
        asked
    }

    fn collect(&mut self, table: &mut Table, until: Instant) {
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
            match reply {
                Reply::Host(filesystems, users) => {
                    self.filesystems = filesystems;
                    users.into_iter().for_each(|users| table.rename(users));
                }
                Reply::Groups(groups) => self.spare_groups = Some(mem::replace(&mut self.groups, groups)),
                Reply::Stacks(text) => self.stacks = Some(text).filter(|text| !text.is_empty()),
                Reply::Process(identity, news) => news.enter(table, identity),
            }
        }
        self.stuck = false;
    }
}

fn is_due(asked: Option<Instant>, now: Instant, every: Duration) -> bool {
    asked.is_none_or(|asked| now.duration_since(asked) >= every)
}

fn is_nearly_full(filesystem: &Filesystem) -> bool {
    filesystem.free_bytes < filesystem.total_bytes / 100 * FULL_PERCENT
}

impl News {
    fn enter(self, table: &mut Table, identity: Identity) {
        let Some(process) = table.find(identity) else { return };
        if let Some(command) = self.command {
            process.command = Some(command);
        }
        if let Some(cgroup) = self.cgroup {
            process.cgroup = Some(cgroup);
        }
    }
}

/// The state of the thread.
#[derive(Debug)]
struct Reader {
    proc: PathBuf,
    users: PasswordFile,
    directory: Directory,
    groups: Groups,
    buffer: Box<[u8; MAX_COMMAND_BYTES]>,
}

impl Reader {
    fn open(proc: &Path, passwd: &Path, groups: &ControlGroups) -> io::Result<Self> {
        Ok(Self {
            proc: proc.into(),
            users: PasswordFile::new(passwd),
            directory: Directory::open(proc)?,
            groups: Groups::open(groups),
            buffer: Box::new([0; MAX_COMMAND_BYTES]),
        })
    }

    fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Host => Reply::Host(filesystems::read(&self.proc), self.users.changed()),
            Request::Groups(mut groups) => {
                let now_ns = Moment::now().map_or(0, |now| nanoseconds(now.boottime));
                self.groups.read(now_ns, &mut groups);
                Reply::Groups(groups)
            }
            Request::Stacks(tasks) => {
                let mut text = String::new();
                for (pid, comm) in tasks {
                    stacks::read(&self.directory, pid, &comm, self.buffer.as_mut_slice(), &mut text);
                }
                Reply::Stacks(text)
            }
            Request::Process(identity, wants, [known_command, known_cgroup]) => {
                // A process without a command line, such as a zombie, keeps the known one.
                let line = self.read(wants.command, identity.pid, "cmdline").and_then(parse_command);
                let command =
                    line.filter(|line| Some(line.as_ref()) != known_command.as_deref()).map(Arc::from);
                let path = self.read(wants.cgroup, identity.pid, "cgroup").and_then(parse_cgroup);
                let cgroup = path.filter(|path| Some(*path) != known_cgroup.as_deref()).map(Arc::from);
                Reply::Process(identity, News { command, cgroup })
            }
        }
    }

    fn read(&mut self, wanted: bool, pid: u32, name: &str) -> Option<&mut [u8]> {
        if !wanted {
            return None;
        }
        let length = self.directory.read(pid, name, self.buffer.as_mut_slice()).ok()?.len();
        Some(&mut self.buffer[..length])
    }
}

/// Joins arguments with spaces. `None` if there are none, as for kernel threads.
fn parse_command(bytes: &mut [u8]) -> Option<Cow<'_, str>> {
    bytes.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    let text = String::from_utf8_lossy(bytes.trim_ascii_end());
    (!text.is_empty()).then_some(text)
}

/// The path in `/proc/PID/cgroup`: from the unified hierarchy of version 2, or else from systemd's own of version 1.
fn parse_cgroup(bytes: &mut [u8]) -> Option<&str> {
    let lines = || bytes.split(|byte| *byte == b'\n');
    let unified = lines().find_map(|line| line.strip_prefix(b"0::".as_slice()));
    // On a host that uses both versions, version 2 contains only the root.
    let path = unified.filter(|path| *path != b"/").or_else(|| {
        lines().find_map(|line| {
            let behind = line.iter().position(|byte| *byte == b':')? + 1;
            line[behind..].strip_prefix(b"name=systemd:".as_slice())
        })
    });
    str::from_utf8(path.or(unified)?).ok()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        process::{Child, Command, Stdio},
    };

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn arguments_are_joined_and_padding_is_dropped() {
        let parse = |bytes: &[u8]| parse_command(&mut bytes.to_vec()).map(Cow::into_owned);
        assert_eq!(parse(b"/usr/sbin/apache2\0-k\0start\0").as_deref(), Some("/usr/sbin/apache2 -k start"));
        assert_eq!(parse(b"postgres: writer\0\0\0\0").as_deref(), Some("postgres: writer"));
        assert_eq!(parse(b"\0"), None);
        assert_eq!(parse(b"caf\xe9\0").as_deref(), Some("caf\u{fffd}"));
    }

    #[test]
    fn cgroups_of_both_versions_are_read() {
        let parse = |bytes: &[u8]| parse_cgroup(&mut bytes.to_vec()).map(str::to_owned);
        assert_eq!(
            parse(b"0::/system.slice/apache2.service\n").as_deref(),
            Some("/system.slice/apache2.service")
        );
        let hybrid = b"4:memory:/m\n1:name=systemd:/system.slice/cron.service\n0::/\n";
        assert_eq!(parse(hybrid).as_deref(), Some("/system.slice/cron.service"));
        assert_eq!(parse(b"2:cpu:/\n1:name=systemd:/init.scope\n").as_deref(), Some("/init.scope"));
        assert_eq!(parse(b"0::/\n").as_deref(), Some("/"));
        assert_eq!(parse(b"3:freezer:/\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(mut bytes: Vec<u8>) {
            let _ = parse_cgroup(&mut bytes);
            let _ = parse_command(&mut bytes);
        }
    }

    fn start() -> Details {
        let groups = ControlGroups::below(Path::new("/"));
        Details::start(Path::new("/proc"), Path::new("/etc/passwd"), &groups).unwrap()
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    #[test]
    fn a_title_that_a_process_gives_itself_is_read_again_in_turn() {
        // A new exec would trigger a reading, so this process overwrites its own arguments instead.
        let script =
            "$0 = 'title: one'; $| = 1; print qq(1\n); <STDIN>; $0 = 'title: two'; print qq(2\n); <STDIN>";
        let mut perl = Command::new("perl");
        perl.args(["-e", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut child) = perl.spawn() else { return eprintln!("skipped: there is no perl") };
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut titled = || output.read_exact(&mut [0; 2]).unwrap();
        titled();
        let mut details = start();
        let (mut table, identity) = (Table::new(), Identity { pid: child.id(), started_ns: 1 });
        let mut look = || {
            table.begin();
            table.meet(identity).ran(1);
            table.finish();
            details.exchange(&mut table, Duration::from_secs(60));
            table.find(identity).unwrap().command.clone()
        };
        assert_eq!(look().as_deref(), Some("title: one"));
        input.write_all(b"\n").unwrap();
        titled();
        assert_eq!(look().as_deref(), Some("title: two"));
        drop(input);
        child.wait().unwrap();
    }

    #[test]
    fn details_arrive_and_requests_for_gone_processes_are_answered() {
        let mut child = sleeper();
        let mut details = start();
        let mut table = Table::new();
        let here = Identity { pid: child.id(), started_ns: 1 };
        let gone = Identity { pid: u32::MAX, started_ns: 2 };
        // The child may not have run exec yet at the first request.
        for exec in 0.. {
            table.begin();
            for identity in [here, gone] {
                let mut row = table.meet(identity);
                row.own(0);
                row.ran(exec);
            }
            table.finish();
            details.exchange(&mut table, Duration::from_secs(60));
            assert_eq!(details.outstanding, 0);
            if table.find(here).unwrap().command.as_deref() == Some("sleep 600") {
                break;
            }
        }
        assert!(table.find(here).unwrap().cgroup.as_deref().is_some_and(|path| path.starts_with('/')));
        assert_eq!(table.find(gone).unwrap().command, None);
        assert_eq!(table.find(gone).unwrap().user.as_deref(), Some("root"));
        assert!(
            details.filesystems().iter().all(|filesystem| filesystem.total_bytes >= filesystem.free_bytes)
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
