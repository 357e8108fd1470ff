//! Reads all processes from /proc and keeps descriptors open: opening a file costs more than reading it.
//!
//! `stat` is read for each process in every sweep, `statm` if `stat` has changed and otherwise in turn. Other files
//! must be opened for each reading; they are read if a process is new, has grown, or is among the largest, and
//! otherwise in turn. `io` is also read if the process has waited for a child: the kernel has added the child's I/O.
//! A process that cannot be read is skipped and counted; it never fails the sweep.

mod living;
mod parse;
mod precision;

use std::{io, mem, path::Path};

use record::{Collector as Kind, Identity, Process};

use self::{
    living::Living,
    parse::{Stat, parse_io, parse_schedstat, parse_stat, parse_statm, parse_status, task_name},
    precision::Precision,
};
use super::{Collector, Effort, Swept};
use crate::{
    kept::{Kept, Watch},
    proc::{Directory, Pids},
    table::{Row, Table},
};

/// Number of sweeps in which every changed process has its turn.
const TURNS: u64 = 10;
/// Number of sweeps in which every other process has its turn.
const IDLE_TURNS: u64 = 100;
/// Number of largest processes whose `status` is read in every sweep.
const LARGEST: usize = 16;
/// Maximum number of processes in a sweep whose `io` and `schedstat` are read early because they have run.
const BUSY: usize = 64;
/// Maximum number of threads to check in a sweep if a process's first thread has exited.
const LIVING_TRIED: usize = 8;
/// Minimum change of resident size for an early reading.
const NOTABLE_KIB: u64 = 1024;
/// Maximum length of `stat`, in bytes: a name and 51 numbers.
const STAT_BYTES: usize = 2048;
/// Maximum length of other files, in bytes; `status` of a process with many groups is cut after the required lines.
const BUFFER_BYTES: usize = 4096;

/// The /proc collector.
#[derive(Debug)]
pub(super) struct Proc {
    directory: Directory,
    pids: Pids,
    /// Threads of a process whose first thread has exited.
    threads: Pids,
    page_kib: u64,
    precision: Precision,
    /// Maximum number of descriptors to keep open.
    budget: usize,
    /// Number of open descriptors, including some that may have been closed since the last sweep.
    open: usize,
    /// Number of descriptors of the processes met in this sweep.
    held: usize,
    turn: u64,
    /// Whether a size in this sweep was taken over from the previous one.
    assumed: bool,
    /// Remaining number of early readings of `io` and `schedstat` in this sweep.
    busy_left: usize,
    sizes: Vec<u64>,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

impl Proc {
    /// A collector for this proc file system that keeps at most `budget` descriptors open.
    pub(super) fn open(proc: &Path, page_kib: u64, budget: usize) -> io::Result<Self> {
        Ok(Self {
            directory: Directory::open(proc)?,
            pids: Pids::new(),
            threads: Pids::new(),
            page_kib,
            precision: Precision::of_kernel(page_kib),
            budget,
            open: 0,
            held: 0,
            turn: 0,
            assumed: false,
            busy_left: 0,
            sizes: Vec::new(),
            buffer: Box::new([0; BUFFER_BYTES]),
        })
    }

    /// The minimum size of the largest processes.
    fn largest_kib(&mut self, processes: &[Process]) -> u64 {
        self.sizes.clear();
        self.sizes.extend(processes.iter().map(|process| process.resident_kib));
        if self.sizes.len() <= LARGEST {
            return 1;
        }
        *self.sizes.select_nth_unstable_by(LARGEST, |a, b| b.cmp(a)).1
    }

    fn walk(&mut self, pids: &mut Pids, table: &mut Table, effort: Effort) -> io::Result<Swept> {
        let pids = pids.list(&self.directory)?;
        let largest_kib = self.largest_kib(table.processes());
        let mut threads = 1;
        self.turn += 1;
        self.busy_left = BUSY;
        self.held = 0;
        self.assumed = false;
        table.begin();
        for pid in pids {
            threads = threads.max(self.visit(table, *pid, effort, largest_kib).unwrap_or(0));
        }
        table.finish();
        self.open = self.held;
        Ok(Swept {
            listed: pids.len() as u64,
            rss_error_kib: self.precision.error_kib(threads, self.assumed),
        })
    }

    /// Reads a process and returns its number of threads; `None` if it is gone or may not be read.
    fn visit(&mut self, table: &mut Table, pid: u32, effort: Effort, largest_kib: u64) -> Option<u32> {
        let kept = table.peek(pid).and_then(|mark| mark.watch.kept.as_ref());
        let mut text = [0; STAT_BYTES];
        let (length, opened) = match kept.and_then(|kept| kept.read_stat(&mut text).ok()) {
            Some(length) => (length, None),
            // Also reached if the pid was reused since the last sweep: the kept files fail with ESRCH.
            None => {
                let files = Kept::open(&self.directory, pid).ok()?;
                (files.read_stat(&mut text).ok()?, Some(files))
            }
        };
        let mut stat = parse_stat(&text[..length])?;
        let mut row = table.meet(Identity { pid, started_ns: stat.started_ns });
        let living = if stat.has_lost_its_first_thread() { self.find_living(&row) } else { None };
        row.mark.watch.living = living.map(|living| living.thread);
        match living {
            Some(living) => {
                living.speak_for(&mut stat);
                row.process.resident_kib = living.resident_kib;
            }
            None => self.measure(&mut row, opened.as_ref(), crc32c::crc32c(&text[..length])),
        }
        match opened {
            Some(files) => self.keep(&mut row, files),
            None => self.held += Kept::DESCRIPTORS,
        }
        apply(&mut row, &stat);
        self.look_closer(&mut row, stat.children, effort, largest_kib);
        Some(row.process.threads)
    }

    /// A living thread of a process whose first thread has exited: the same as before, or any other.
    fn find_living(&mut self, row: &Row<'_>) -> Option<Living> {
        let pid = row.process.identity.pid;
        let buffer = self.buffer.as_mut_slice();
        let mut read = |thread| Living::read(&self.directory, (pid, thread), self.page_kib, buffer);
        if let Some(living) = row.mark.watch.living.and_then(&mut read) {
            return Some(living);
        }
        let threads = self.threads.list(&self.directory.open_threads(pid).ok()?).ok()?;
        threads.iter().filter(|thread| **thread != pid).take(LIVING_TRIED).find_map(|thread| read(*thread))
    }

    /// Keeps new files open if the budget allows.
    fn keep(&mut self, row: &mut Row<'_>, files: Kept) {
        let affordable = self.open + Kept::DESCRIPTORS <= self.budget;
        if affordable {
            self.open += Kept::DESCRIPTORS;
            self.held += Kept::DESCRIPTORS;
        }
        row.mark.watch.kept = affordable.then_some(files);
    }

    /// Reads the resident size, from new or kept files, if `stat` has changed or the process's turn has come.
    fn measure(&mut self, row: &mut Row<'_>, new: Option<&Kept>, stat: u32) {
        let turn = self.turn_of(row);
        let watch = &mut row.mark.watch;
        if watch.size_at == Some(stat) && !turn.is_multiple_of(TURNS) {
            self.assumed = true;
            return;
        }
        if let Some(files) = new.or(watch.kept.as_ref())
            && let Ok(statm) = files.read_statm(self.buffer.as_mut_slice())
            && let Some(resident_kib) = parse_statm(statm, self.page_kib)
        {
            (row.process.resident_kib, watch.size_at) = (resident_kib, Some(stat));
        }
    }

    /// The process's turn comes when this is a multiple of the number of turns. Neighbours have different turns.
    fn turn_of(&self, row: &Row<'_>) -> u64 {
        u64::from(row.process.identity.pid) + self.turn
    }

    /// Reads the files that must be opened, if the time has come. `children` is that of [`Stat`].
    fn look_closer(&mut self, row: &mut Row<'_>, children: u64, effort: Effort, largest_kib: u64) {
        let now = (row.process.resident_kib, row.process.user_us + row.process.system_us);
        let turn = self.turn_of(row);
        let watch = &row.mark.watch;
        let first = watch.status_at.is_none();
        if !first && effort == Effort::Cheap {
            return;
        }
        let ran = watch.traffic_at != Some(now.1);
        // Waiting for a child may take no tick of CPU time.
        let reaped = watch.children_at != children;
        let out_of_turn = reaped || (ran && (first || self.busy_left > 0));
        let in_turn = turn.is_multiple_of(if ran { TURNS } else { IDLE_TURNS });
        if needs_status(watch, now, turn, largest_kib) {
            row.mark.watch.status_at = Some(now);
            self.read_status(row);
        }
        if turn.is_multiple_of(IDLE_TURNS) {
            row.want_cgroup();
        }
        if out_of_turn || in_turn {
            self.busy_left = self.busy_left.saturating_sub(usize::from(!first && !in_turn));
            row.mark.watch.traffic_at = Some(now.1);
            self.read_traffic(row, children);
        }
    }

    fn read_status(&mut self, row: &mut Row<'_>) {
        let pid = row.process.identity.pid;
        let buffer = self.buffer.as_mut_slice();
        let read = match row.mark.watch.living {
            Some(thread) => self.directory.read_of_thread((pid, thread), "status", buffer),
            None => self.directory.read(pid, "status", buffer),
        };
        let Ok(bytes) = read else { return };
        let status = parse_status(bytes);
        row.process.anon_kib = status.anon_kib;
        row.process.file_kib = status.file_kib;
        row.process.shmem_kib = status.shmem_kib;
        row.process.swap_kib = status.swap_kib;
        if let Some(uid) = status.uid {
            row.own(uid);
        }
    }

    fn read_traffic(&mut self, row: &mut Row<'_>, children: u64) {
        let pid = row.process.identity.pid;
        let io = self.directory.read(pid, "io", self.buffer.as_mut_slice()).ok().and_then(parse_io);
        // Not permitted or not compiled in: absent, never an old value.
        row.process.read_bytes = io.map(|(read, _)| read);
        row.process.written_bytes = io.map(|(_, written)| written);
        // `io` may already include a child that the process waited for after `stat` was read.
        let children = self.children_of(row).unwrap_or(children);
        let watch = &mut row.mark.watch;
        watch.reaped = mem::replace(&mut watch.children_at, children) != children;
        // The file describes only the first thread.
        row.process.wait_us = None;
        if row.process.threads == 1
            && let Ok(bytes) = self.directory.read(pid, "schedstat", self.buffer.as_mut_slice())
            && let Some(wait_ns) = parse_schedstat(bytes)
        {
            row.waited(wait_ns);
        }
    }

    /// [`Stat::children`] at this moment; `None` if `stat` is not kept open.
    fn children_of(&mut self, row: &Row<'_>) -> Option<u64> {
        let buffer = self.buffer.as_mut_slice();
        let length = row.mark.watch.kept.as_ref()?.read_stat(buffer).ok()?;
        Some(parse_stat(&buffer[..length])?.children)
    }
}

impl Collector for Proc {
    fn kind(&self) -> Kind {
        Kind::Proc
    }

    fn sweep(&mut self, table: &mut Table, effort: Effort) -> io::Result<Swept> {
        // The list is moved out, because the walk borrows the rest.
        let mut pids = mem::take(&mut self.pids);
        let swept = self.walk(&mut pids, table, effort);
        self.pids = pids;
        swept
    }
}

fn apply(row: &mut Row<'_>, stat: &Stat<'_>) {
    let name = task_name(stat.comm);
    row.name(name);
    // Kernel threads and zombies have neither memory nor a command line.
    if stat.virtual_kib > 0 {
        // The start of the stack is random at each exec.
        if row.ran(stat.stack_start ^ fingerprint(name)) {
            row.mark.watch.status_at = None;
        }
    }
    let process = &mut *row.process;
    process.parent = stat.parent;
    process.state = stat.state;
    process.threads = stat.threads;
    process.user_us = stat.user_us;
    process.system_us = stat.system_us;
    process.major_faults = stat.major_faults;
    process.virtual_kib = stat.virtual_kib;
}

/// A number that differs for nearly every name.
fn fingerprint(name: &[u8]) -> u64 {
    name.iter().fold(0, |number: u64, byte| number.wrapping_mul(0x100_0000_01b3) ^ u64::from(*byte))
}

fn needs_status(watch: &Watch, now: (u64, u64), turn: u64, largest_kib: u64) -> bool {
    let Some(then) = watch.status_at else { return true };
    if now == then {
        return turn.is_multiple_of(IDLE_TURNS);
    }
    turn.is_multiple_of(TURNS) || now.0 >= largest_kib || now.0.abs_diff(then.0) > NOTABLE_KIB
}
