//! All processes from /proc, with kept descriptors: opening a file costs more than reading it.
//!
//! `stat` of each process is read in every sweep, `statm` when `stat` is another than before and otherwise in turn.
//! The rest, which must be opened for each reading, is read when a process is new, has grown, or is among the largest,
//! and otherwise in turn. A process that cannot be read is left out and counted; it never fails the sweep.

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

/// Sweeps in which every process that has changed has its turn.
const TURNS: u64 = 10;
/// Sweeps in which every other process has its turn.
const IDLE_TURNS: u64 = 100;
/// Largest processes whose `status` is read in every sweep.
const LARGEST: usize = 16;
/// Processes in a sweep whose `io` and `schedstat` are read out of turn because they have run.
const BUSY: usize = 64;
/// Threads of a process that are asked in one sweep whether they live, if the first does not.
const LIVING_TRIED: usize = 8;
/// A change of resident size that makes a process worth a closer look.
const NOTABLE_KIB: u64 = 1024;
/// Longest `stat`: a name and 51 numbers.
const STAT_BYTES: usize = 2048;
/// Longest other content that is read; `status` of a process with many groups is cut behind what is wanted.
const BUFFER_BYTES: usize = 4096;

/// The collector.
#[derive(Debug)]
pub(super) struct Proc {
    directory: Directory,
    pids: Pids,
    /// Those of one process, whose first thread has exited.
    threads: Pids,
    page_kib: u64,
    precision: Precision,
    /// Descriptors that may be kept open.
    budget: usize,
    /// Those that are, counting what may have been closed since the last sweep.
    open: usize,
    /// Those of the processes met in this sweep.
    held: usize,
    turn: u64,
    /// Whether a size of this sweep was taken over from the one before.
    assumed: bool,
    /// Processes whose `io` and `schedstat` may still be read in this sweep out of turn.
    busy_left: usize,
    sizes: Vec<u64>,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

impl Proc {
    /// For this proc file system, keeping at most `budget` descriptors.
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

    /// The size from which a process is among the largest.
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

    /// Reads one process, and returns its threads; `None` if it is gone or may not be read.
    fn visit(&mut self, table: &mut Table, pid: u32, effort: Effort, largest_kib: u64) -> Option<u32> {
        let kept = table.peek(pid).and_then(|mark| mark.watch.kept.as_ref());
        let mut text = [0; STAT_BYTES];
        let (length, opened) = match kept.and_then(|kept| kept.read_stat(&mut text).ok()) {
            Some(length) => (length, None),
            // A pid that was reused since the last sweep ends here too: the kept files say ESRCH.
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
        self.look_closer(&mut row, effort, largest_kib);
        Some(row.process.threads)
    }

    /// The thread that speaks for a process whose first one has exited: the one that did before, or any that lives.
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

    /// Keeps new files open, if the budget allows it.
    fn keep(&mut self, row: &mut Row<'_>, files: Kept) {
        let affordable = self.open + Kept::DESCRIPTORS <= self.budget;
        if affordable {
            self.open += Kept::DESCRIPTORS;
            self.held += Kept::DESCRIPTORS;
        }
        row.mark.watch.kept = affordable.then_some(files);
    }

    /// Reads the resident size, by new files or those that are kept, if `stat` is another than before or it is time to.
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

    /// It is this process's turn when this is a multiple of the number of turns. Those of its neighbours differ.
    fn turn_of(&self, row: &Row<'_>) -> u64 {
        u64::from(row.process.identity.pid) + self.turn
    }

    /// Reads the files that must be opened, if it is time to.
    fn look_closer(&mut self, row: &mut Row<'_>, effort: Effort, largest_kib: u64) {
        let now = (row.process.resident_kib, row.process.user_us + row.process.system_us);
        let turn = self.turn_of(row);
        let watch = &row.mark.watch;
        let first = watch.status_at.is_none();
        if !first && effort == Effort::Cheap {
            return;
        }
        let ran = watch.traffic_at != Some(now.1);
        let out_of_turn = ran && (first || self.busy_left > 0);
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
            self.read_traffic(row);
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

    fn read_traffic(&mut self, row: &mut Row<'_>) {
        let pid = row.process.identity.pid;
        let io = self.directory.read(pid, "io", self.buffer.as_mut_slice()).ok().and_then(parse_io);
        // Not permitted, or not compiled in: absent, never what it was once.
        row.process.read_bytes = io.map(|(read, _)| read);
        row.process.written_bytes = io.map(|(_, written)| written);
        // It speaks of the first thread only.
        row.process.wait_us = None;
        if row.process.threads == 1
            && let Ok(bytes) = self.directory.read(pid, "schedstat", self.buffer.as_mut_slice())
            && let Some(wait_ns) = parse_schedstat(bytes)
        {
            row.waited(wait_ns);
        }
    }
}

impl Collector for Proc {
    fn kind(&self) -> Kind {
        Kind::Proc
    }

    fn sweep(&mut self, table: &mut Table, effort: Effort) -> io::Result<Swept> {
        // The list is lent to the walk, which changes the rest.
        let mut pids = mem::take(&mut self.pids);
        let swept = self.walk(&mut pids, table, effort);
        self.pids = pids;
        swept
    }
}

fn apply(row: &mut Row<'_>, stat: &Stat<'_>) {
    let name = task_name(stat.comm);
    row.name(name);
    // Neither kernel threads nor zombies have memory, nor a command line.
    if stat.virtual_kib > 0 {
        // Where the stack began is random at each exec.
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

/// A number that is another one for nearly every other name.
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
