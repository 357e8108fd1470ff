//! Reads all processes through a BPF iterator: the kernel walks its tasks and returns their data in one pass.
//!
//! More exact than /proc: CPU time in nanoseconds, and everything in every sweep. Threads are summed into their
//! process here; ended threads are included in the process's own sums. A thread that ends during a pass may be missed
//! or, if ids have wrapped, counted twice; no recorded counter decreases because of that.

mod cputime;
mod program;
mod reading;

use std::{
    collections::HashSet,
    io::{self, Read},
    path::Path,
};

use record::{Collector as Kind, Identity};

use self::{
    cputime::Counters,
    program::Program,
    reading::{Reading, Record, Sums, Survivor},
};
use super::{Collector, Effort, Swept, TICK_NS, per_cpu_error_kib};
use crate::{
    proc::{Directory, Pids},
    table::{Row, Table},
};

/// Maximum result of one read of an iterator (bpf_seq_read in kernel/bpf/bpf_iter.c: eight pages).
const READ_BYTES: usize = 8 << 12;

/// The BPF collector.
#[derive(Debug)]
pub(super) struct Bpf {
    program: Program,
    page_kib: u64,
    /// The records of one pass, in the first `filled` bytes.
    buffer: Vec<u8>,
    filled: usize,
    /// Sums of threads other than the first, by process.
    threads: Vec<(u32, Sums)>,
    /// Living threads of processes whose first thread has exited, by process.
    survivors: Vec<(u32, Survivor)>,
    /// Number of processes that /proc lists but BPF does not show: some kernels hide one.
    hidden: u64,
}

impl Bpf {
    /// Loads the program and tries it; fails with the reason, in one sentence.
    pub(super) fn load(proc: &Path, page_kib: u64) -> Result<Self, String> {
        let program = Program::load(proc).map_err(|refusal| refusal.to_string())?;
        let mut bpf = Self {
            program,
            page_kib,
            buffer: Vec::new(),
            filled: 0,
            threads: Vec::new(),
            survivors: Vec::new(),
            hidden: 0,
        };
        bpf.hidden = bpf.count_hidden(proc).map_err(|error| format!("cannot read the iterator: {error}"))?;
        Ok(bpf)
    }

    /// Number of processes that exist before and after a pass, but do not appear in it.
    fn count_hidden(&mut self, proc: &Path) -> io::Result<u64> {
        let directory = Directory::open(proc)?;
        let (mut before, mut after) = (Pids::new(), Pids::new());
        let before = before.list(&directory)?;
        self.read()?;
        let after = after.list(&directory)?;
        let shown = records(&self.buffer[..self.filled]).filter_map(|record| match record {
            Record::Process(bytes) => Some(reading::parse_process(bytes).pid),
            Record::Thread(_) | Record::Survivor(_) => None,
        });
        let shown: HashSet<u32> = shown.collect();
        let lasting = before.iter().filter(|pid| after.binary_search(pid).is_ok());
        Ok(lasting.filter(|pid| !shown.contains(pid)).count() as u64)
    }

    fn read(&mut self) -> io::Result<()> {
        let mut file = self.program.open().map_err(io::Error::other)?;
        self.filled = 0;
        loop {
            if self.buffer.len() - self.filled < READ_BYTES {
                self.buffer.resize(self.buffer.len() + 2 * READ_BYTES, 0);
            }
            match file.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Ok(()),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sums threads by process, in ascending order: their records may precede that of their process.
    fn sum_threads(&mut self) {
        self.threads.clear();
        self.survivors.clear();
        for record in records(&self.buffer[..self.filled]) {
            let (process, sums) = match record {
                Record::Thread(bytes) => reading::parse_thread(bytes),
                Record::Survivor(bytes) => {
                    self.survivors.push(reading::parse_survivor(bytes));
                    continue;
                }
                Record::Process(_) => continue,
            };
            match self.threads.last_mut() {
                Some((last, total)) if *last == process => total.add(&sums),
                _ => self.threads.push((process, sums)),
            }
        }
        self.threads.sort_unstable_by_key(|(process, _)| *process);
        self.survivors.sort_unstable_by_key(|(process, _)| *process);
    }

    /// A living thread of this process, if the first one has exited.
    fn survivor(&self, pid: u32) -> Option<&Survivor> {
        let place = self.survivors.binary_search_by_key(&pid, |(process, _)| *process).ok()?;
        Some(&self.survivors[place].1)
    }
}

impl Collector for Bpf {
    fn kind(&self) -> Kind {
        Kind::Bpf
    }

    fn sweep(&mut self, table: &mut Table, _: Effort) -> io::Result<Swept> {
        self.read()?;
        self.sum_threads();
        let mut threads = self.threads.iter().peekable();
        // Processes that BPF does not show also count: `listed` is the number of processes, recorded or not.
        let mut listed = self.hidden;
        let mut exact = true;
        table.begin();
        for record in records(&self.buffer[..self.filled]) {
            let Record::Process(bytes) = record else { continue };
            let mut reading = reading::parse_process(bytes);
            // Processes and summed threads both ascend by pid: merge them. Skip threads whose process is not in this pass.
            while threads.next_if(|(process, _)| *process < reading.pid).is_some() {}
            while let Some((_, sums)) = threads.next_if(|(process, _)| *process == reading.pid) {
                reading.sums.add(sums);
            }
            // A first thread that has exited has no memory map; a living thread still has the process's memory and state.
            if let Some(survivor) = self.survivor(reading.pid).filter(|_| !reading.has_memory) {
                survivor.speak_for(&mut reading);
            }
            // Whole ticks, as in /proc: both collectors must give a process the same identity.
            let started_ns = reading.start_boottime_ns / TICK_NS * TICK_NS;
            let mut row = table.meet(Identity { pid: reading.pid, started_ns });
            fill(&mut row, &reading, self.page_kib);
            exact &= reading.is_exact;
            listed += 1;
        }
        table.finish();
        let rss_error_kib =
            if exact { 0 } else { per_cpu_error_kib(self.program.cpus.into(), self.page_kib) };
        Ok(Swept { listed, rss_error_kib })
    }
}

fn records(bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (record, behind) = reading::next(rest)?;
        rest = behind;
        Some(record)
    })
}

fn fill(row: &mut Row<'_>, reading: &Reading<'_>, page_kib: u64) {
    let sums = &reading.sums;
    row.name_padded(reading.comm);
    row.own(reading.euid);
    row.moved(reading.cgroup_id);
    if reading.has_memory {
        row.ran(reading.exec_id);
    }
    if reading.has_wait {
        row.waited(sums.wait_ns);
    }
    let counters = Counters { runtime_ns: sums.runtime_ns, user_ns: sums.user_ns, system_ns: sums.system_ns };
    row.mark.shown = cputime::adjust(counters, row.mark.shown);
    let process = &mut *row.process;
    process.user_us = row.mark.shown.0 / 1000;
    process.system_us = row.mark.shown.1 / 1000;
    process.parent = reading.parent;
    process.state = reading::letter(reading.state);
    process.threads = reading.threads;
    process.major_faults = process.major_faults.max(sums.major_faults);
    process.read_bytes = reading.has_io.then(|| sums.read_bytes.max(process.read_bytes.unwrap_or(0)));
    process.written_bytes =
        reading.has_io.then(|| sums.written_bytes.max(process.written_bytes.unwrap_or(0)));
    let [file, anon, swap, shmem] = std::array::from_fn(|kind| {
        let pages = reading.pages[kind] + sums.unsettled_pages[kind];
        u64::try_from(pages).unwrap_or(0) * page_kib
    });
    let split = |kib| reading.has_memory.then_some(kib);
    process.virtual_kib = reading.virtual_pages * page_kib;
    process.resident_kib = file + anon + shmem;
    process.file_kib = split(file);
    process.anon_kib = split(anon);
    process.swap_kib = split(swap);
    process.shmem_kib = split(shmem);
}
