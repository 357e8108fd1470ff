//! One look at every process, through files that are kept open.
//!
//! A kept descriptor pins the kernel's own notion of the process: once that is reaped, reads fail with ESRCH and
//! can never return a later process with the same pid. Reading again through it also costs a third of opening anew.
//!
//! Every sweep reads `stat` and `statm` of all. `status`, three times as dear, is read for processes that are new or
//! ran exec. Of those that have worked or changed their size since, the largest and those that changed by more than
//! [`NOTABLE_KIB`] have it read again at once, the others within [`TURNS`] samples. Nothing in it changes without
//! one of the two but by the user of a process that hardly worked, which is why the idle have their turn too.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use proto::history::{Identity, Process, Sample};

use super::{
    command::Commands,
    process::{Stat, parse_stat, parse_statm, parse_status},
    users::Users,
};

/// Sweeps in which every process that has changed has its turn.
const TURNS: u64 = 10;
/// Sweeps in which every other process has its turn.
const IDLE_TURNS: u64 = 100;
/// Largest processes whose `status` is read in every sweep.
const LARGEST: usize = 16;
/// A change of resident size that makes a process worth a closer look.
const NOTABLE_KIB: u64 = 1024;
/// How long a sweep waits for command lines; they may come with a later one.
const PATIENCE: Duration = Duration::from_millis(20);
/// Longest content of the files read here; `status` of a process with many groups is cut behind what is wanted.
const BUFFER: usize = 4096;

/// All processes as they were last seen.
#[derive(Debug)]
pub(super) struct Sweep {
    proc: PathBuf,
    page_kib: u64,
    entries: BTreeMap<u32, Entry>,
    users: Users,
    commands: Commands,
    /// Descriptors that may still be kept.
    budget: usize,
    turn: u64,
    pids: Vec<u32>,
    sizes: Vec<u64>,
}

#[derive(Debug)]
struct Entry {
    process: Process,
    /// `stat` and `statm`, unless there were too many.
    kept: Option<[File; 2]>,
    stack_start: u64,
    /// Resident size and CPU time when `status` was last read.
    status_at: Option<(u64, u64)>,
    wants_command: bool,
}

impl Sweep {
    /// For this proc file system, keeping at most `budget` descriptors.
    pub(super) fn new(proc: &Path, page_kib: u64, users: Users, budget: usize) -> io::Result<Self> {
        Ok(Self {
            proc: proc.to_path_buf(),
            page_kib,
            entries: BTreeMap::new(),
            users,
            commands: Commands::start(proc)?,
            budget,
            turn: 0,
            pids: Vec::new(),
            sizes: Vec::new(),
        })
    }

    /// Fills in the sample's processes. Fails only if /proc itself cannot be listed.
    pub(super) fn run(&mut self, sample: &mut Sample) -> io::Result<()> {
        self.turn += 1;
        self.list()?;
        let users_changed = self.users.refresh();
        let largest_kib = self.largest_kib();
        self.forget_the_vanished();
        let mut buffer = [0; BUFFER];
        for index in 0..self.pids.len() {
            let pid = self.pids[index];
            if !self.refresh(pid, largest_kib, users_changed, &mut buffer) {
                self.forget(pid);
            }
        }
        self.collect_commands();
        sample.listed = self.pids.len() as u64;
        sample.processes.clear();
        sample.processes.extend(self.entries.values().map(|entry| entry.process.clone()));
        Ok(())
    }

    fn list(&mut self) -> io::Result<()> {
        self.pids.clear();
        for entry in fs::read_dir(&self.proc)? {
            let pid = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            self.pids.extend(pid);
        }
        self.pids.sort_unstable();
        Ok(())
    }

    /// The size from which a process is among the largest.
    fn largest_kib(&mut self) -> u64 {
        self.sizes.clear();
        self.sizes.extend(self.entries.values().map(|entry| entry.process.resident_kib));
        if self.sizes.len() <= LARGEST {
            return 1;
        }
        *self.sizes.select_nth_unstable_by(LARGEST, |a, b| b.cmp(a)).1
    }

    fn forget_the_vanished(&mut self) {
        let Self { entries, pids, budget, .. } = self;
        entries.retain(|pid, entry| {
            let stays = pids.binary_search(pid).is_ok();
            *budget += if stays { 0 } else { entry.descriptors() };
            stays
        });
    }

    fn forget(&mut self, pid: u32) {
        if let Some(entry) = self.entries.remove(&pid) {
            self.budget += entry.descriptors();
        }
    }

    /// Reads one process; false if it is gone or may not be read.
    fn refresh(&mut self, pid: u32, largest_kib: u64, users_changed: bool, buffer: &mut [u8]) -> bool {
        let known = self
            .entries
            .get_mut(&pid)
            .is_some_and(|entry| entry.read(&self.proc, self.page_kib, buffer).is_some());
        if !known {
            // A pid that was reused since the last sweep ends here too: the kept files say ESRCH.
            self.forget(pid);
            let Some(entry) = Entry::open(&self.proc, pid, self.page_kib, self.budget >= 2, buffer) else {
                return false;
            };
            self.budget -= entry.descriptors();
            self.entries.insert(pid, entry);
        }
        let Some(entry) = self.entries.get_mut(&pid) else { return false };
        if entry.needs_status(largest_kib, u64::from(pid) + self.turn) {
            entry.read_status(&self.proc, buffer, &self.users);
        } else if users_changed {
            entry.name_user(&self.users);
        }
        if entry.wants_command {
            entry.wants_command = !self.commands.request(entry.process.identity);
        }
        true
    }

    fn collect_commands(&mut self) {
        let entries = &mut self.entries;
        self.commands.collect(PATIENCE, |(identity, command)| {
            let entry = entries.get_mut(&identity.pid);
            if let Some(entry) = entry.filter(|entry| entry.process.identity == identity) {
                entry.process.command = command;
            }
        });
    }
}

impl Entry {
    fn open(proc: &Path, pid: u32, page_kib: u64, keep: bool, buffer: &mut [u8]) -> Option<Self> {
        let open = |name| File::open(proc.join(format!("{pid}/{name}")));
        // Refused for want of descriptors, say: then the files are opened for each reading.
        let kept = if keep { open("stat").and_then(|stat| Ok([stat, open("statm")?])).ok() } else { None };
        let mut entry = Self {
            process: Process::bare(Identity { pid, started_ns: 0 }),
            kept,
            stack_start: 0,
            status_at: None,
            wants_command: false,
        };
        let length = entry.fill(proc, "stat", 0, buffer)?;
        entry.process.identity.started_ns = parse_stat(&buffer[..length])?.started_ns;
        entry.read(proc, page_kib, buffer)?;
        Some(entry)
    }

    fn descriptors(&self) -> usize {
        self.kept.as_ref().map_or(0, |files| files.len())
    }

    /// Reads one of the kept files, or opens it.
    fn fill(&self, proc: &Path, name: &str, index: usize, buffer: &mut [u8]) -> Option<usize> {
        match &self.kept {
            Some(files) => files[index].read_at(buffer, 0).ok(),
            None => read_path(proc, self.process.identity.pid, name, buffer),
        }
    }

    /// Reads what changes all the time; `None` if this is not the same process any more.
    fn read(&mut self, proc: &Path, page_kib: u64, buffer: &mut [u8]) -> Option<()> {
        let length = self.fill(proc, "stat", 0, buffer)?;
        let stat = parse_stat(&buffer[..length])?;
        if stat.started_ns != self.process.identity.started_ns {
            return None;
        }
        self.apply(&stat);
        let length = self.fill(proc, "statm", 1, buffer)?;
        self.process.resident_kib = parse_statm(&buffer[..length], page_kib)?;
        Some(())
    }

    fn apply(&mut self, stat: &Stat) {
        let process = &mut self.process;
        let renamed = process.comm.as_bytes() != stat.comm;
        if renamed {
            process.comm = String::from_utf8_lossy(stat.comm).into();
        }
        let alive = !matches!(stat.state, b'Z' | b'X');
        // A zombie has no memory any more, but its command line is worth keeping.
        if alive && (renamed || stat.stack_start != self.stack_start) {
            self.stack_start = stat.stack_start;
            self.wants_command = true;
            self.status_at = None;
        }
        process.parent = stat.parent;
        process.state = stat.state;
        process.threads = stat.threads;
        process.user_us = stat.user_ns / 1_000;
        process.system_us = stat.system_ns / 1_000;
        process.major_faults = stat.major_faults;
        process.virtual_kib = stat.virtual_kib;
    }

    fn needs_status(&self, largest_kib: u64, turn: u64) -> bool {
        let Some((size_then, cpu_then)) = self.status_at else { return true };
        let size = self.process.resident_kib;
        if (size, self.process.cpu_us()) == (size_then, cpu_then) {
            return turn.is_multiple_of(IDLE_TURNS);
        }
        turn.is_multiple_of(TURNS) || size >= largest_kib || size.abs_diff(size_then) > NOTABLE_KIB
    }

    fn read_status(&mut self, proc: &Path, buffer: &mut [u8], users: &Users) {
        let Some(length) = read_path(proc, self.process.identity.pid, "status", buffer) else { return };
        let status = parse_status(&buffer[..length]);
        self.status_at = Some((self.process.resident_kib, self.process.cpu_us()));
        self.process.anon_kib = status.anon_kib;
        self.process.file_kib = status.file_kib;
        self.process.shmem_kib = status.shmem_kib;
        self.process.swap_kib = status.swap_kib;
        if self.process.uid != status.uid {
            self.process.uid = status.uid;
            self.name_user(users);
        }
    }

    fn name_user(&mut self, users: &Users) {
        self.process.user = self.process.uid.and_then(|uid| users.name(uid));
    }
}

fn read_path(proc: &Path, pid: u32, name: &str, buffer: &mut [u8]) -> Option<usize> {
    File::open(proc.join(format!("{pid}/{name}"))).ok()?.read(buffer).ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use nix::unistd::{SysconfVar, sysconf};

    use super::*;

    fn page_kib() -> u64 {
        sysconf(SysconfVar::PAGE_SIZE).unwrap().unwrap() as u64 / 1024
    }

    fn sweep(budget: usize) -> Sweep {
        let users = Users::new(Path::new("/etc/passwd"));
        Sweep::new(Path::new("/proc"), page_kib(), users, budget).unwrap()
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn find(sample: &Sample, pid: u32) -> Option<&Process> {
        sample.processes.iter().find(|process| process.identity.pid == pid)
    }

    #[test]
    fn a_process_is_seen_while_it_lives_and_its_descriptors_go_with_it() {
        for budget in [10_000, 0] {
            let mut sweep = sweep(budget);
            let mut sample = Sample::default();
            let child = sleeper();
            let pid = child.id();
            // The child may not have run exec when it is first seen.
            while find(&sample, pid).is_none_or(|process| process.command.as_deref() != Some("sleep 600")) {
                sweep.run(&mut sample).unwrap();
            }
            let process = find(&sample, pid).unwrap();
            assert_eq!(process.comm.as_ref(), "sleep");
            assert_eq!(process.parent, std::process::id());
            assert_eq!(process.uid, Some(nix::unistd::geteuid().as_raw()));
            assert!(process.user.is_some() && process.resident_kib > 0 && process.anon_kib.is_some());
            assert!(sample.processes.is_sorted_by(|a, b| a.identity < b.identity));
            end(child);
            sweep.run(&mut sample).unwrap();
            assert_eq!(find(&sample, pid), None);
            let kept: usize = sweep.entries.values().map(Entry::descriptors).sum();
            assert_eq!(sweep.budget + kept, budget);
        }
    }

    #[test]
    fn a_zombie_keeps_its_command_line() {
        let mut sweep = sweep(100);
        let mut sample = Sample::default();
        let mut child = sleeper();
        let pid = child.id();
        while find(&sample, pid)
            .is_none_or(|process| process.comm.as_ref() != "sleep" || process.command.is_none())
        {
            sweep.run(&mut sample).unwrap();
        }
        child.kill().unwrap();
        while find(&sample, pid).is_some_and(|process| process.state != b'Z') {
            sweep.run(&mut sample).unwrap();
        }
        let zombie = find(&sample, pid).unwrap();
        assert_eq!((zombie.resident_kib, zombie.command.as_deref()), (0, Some("sleep 600")));
        child.wait().unwrap();
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let mut sweep = sweep(10_000);
        let mut sample = Sample::default();
        sweep.run(&mut sample).unwrap();
        let before = find(&sample, std::process::id()).unwrap().cpu_us();
        while find(&sample, std::process::id()).unwrap().cpu_us() < before + 20_000 {
            sweep.run(&mut sample).unwrap();
        }
    }
}
