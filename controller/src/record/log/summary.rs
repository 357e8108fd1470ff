//! One line per process over a whole window. A day with five hundred processes is forty million updates, so tracks are
//! kept in the order of the samples and updated in place.

use std::sync::Arc;

use record::{BootId, Columns, Exit, Process, Sample, Sources};

use crate::record::{
    inherited::{self, Bytes, Ended, Parents},
    query::Query,
    rates::CpuBounds,
    selection::Sort,
    time::timestamp,
};

/// The columns that a summary needs.
pub(crate) const SUMMARY_COLUMNS: Columns =
    Columns::UID.with(Columns::CPU).with(Columns::FOOTPRINT).with(Columns::IO);

/// A process's activity in a window.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Track {
    /// The boot that the pid belongs to.
    pub boot_id: BootId,
    /// The process as last seen; its I/O as last known.
    pub process: Process,
    /// Wall time of the first sample with it, ms since the Unix epoch.
    pub first_ms: i64,
    /// Wall time of the last sample with it, or of its exit, ms since the Unix epoch.
    pub last_ms: i64,
    /// Peak footprint (memory that the kernel cannot drop), KiB.
    pub peak_footprint_kib: u64,
    /// Wall time of the peak footprint, ms since the Unix epoch.
    pub peak_footprint_ms: i64,
    /// Peak resident memory, KiB.
    pub peak_resident_kib: u64,
    /// Peak swapped-out memory, KiB.
    pub peak_swap_kib: u64,
    /// Peak CPU share of an interval, 100 for one CPU.
    pub peak_cpu_percent: Option<f64>,
    /// Wait status, if the exit is recorded.
    pub status: Option<u32>,
    /// Plausible bounds of CPU time.
    bounds: CpuBounds,
    /// I/O inherited from exited children, and all I/O of intervals in which it may have been.
    inherited: Bytes,
    /// Whether the process's own I/O in some interval is unknown.
    has_unknown_io: bool,
    /// Whether the last sample did not have the I/O.
    io_is_absent: bool,
    /// Whether the process ended without a record of its exit.
    is_cut: bool,
    /// Maximum number of threads.
    threads: u32,
    /// Number of threads in the last sample.
    last_threads: u32,
    at_ns: u64,
    cpu_us: u64,
    base: Base,
}

/// Counters at the start of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Base {
    at_ns: u64,
    cpu_us: u64,
    read_bytes: u64,
    written_bytes: u64,
}

impl Track {
    /// CPU time in the window, µs.
    pub(crate) fn cpu_us(&self) -> u64 {
        self.cpu_us.saturating_sub(self.base.cpu_us)
    }

    /// Average CPU share, 100 for one CPU; absent if the process was seen only once.
    pub(crate) fn mean_cpu_percent(&self) -> Option<f64> {
        self.bounds.percent(self.cpu_us(), self.at_ns.saturating_sub(self.base.at_ns), self.threads)
    }

    /// Whether the process may have used more CPU time: after its last sample, because its exit is not recorded.
    pub(crate) fn cpu_is_lower_bound(&self) -> bool {
        self.is_cut
    }

    /// Bytes read in the window, without those of exited children; absent if unknown.
    pub(crate) fn read_bytes(&self) -> Option<u64> {
        let base = self.base.read_bytes.saturating_add(self.inherited.read);
        self.known(self.process.read_bytes?.saturating_sub(base))
    }

    /// Bytes written in the window, without those of exited children; absent if unknown.
    pub(crate) fn written_bytes(&self) -> Option<u64> {
        let base = self.base.written_bytes.saturating_add(self.inherited.written);
        self.known(self.process.written_bytes?.saturating_sub(base))
    }

    /// Whether the process may have read and written more: in some interval, or after its last sample.
    pub(crate) fn io_is_lower_bound(&self) -> bool {
        self.has_unknown_io || self.is_cut
    }

    /// Bytes read and written; absent if both are unknown.
    fn io_bytes(&self) -> Option<u64> {
        let (read, written) = (self.read_bytes(), self.written_bytes());
        read.or(written).map(|_| read.unwrap_or(0).saturating_add(written.unwrap_or(0)))
    }

    /// A lower bound of 0 says nothing.
    fn known(&self, bytes: u64) -> Option<u64> {
        (bytes > 0 || !self.io_is_lower_bound()).then_some(bytes)
    }

    /// The last counters, including inherited I/O.
    fn ended(&self) -> Ended {
        let Process { identity, parent, read_bytes, written_bytes, .. } = self.process;
        Ended { identity, parent, bytes: Bytes::counted(read_bytes, written_bytes) }
    }

    fn new(
        sample: &Sample,
        process: &Process,
        at_ns: u64,
        born_after_ns: Option<u64>,
        bounds: CpuBounds,
    ) -> Self {
        // A process that started after the last sample did everything since then.
        let born = born_after_ns.is_some_and(|before| process.identity.started_ns >= before);
        let base = if born {
            Base { at_ns: process.identity.started_ns, ..Base::default() }
        } else {
            Base {
                at_ns,
                cpu_us: process.cpu_us(),
                read_bytes: process.read_bytes.unwrap_or(0),
                written_bytes: process.written_bytes.unwrap_or(0),
            }
        };
        let mut process = process.clone();
        if born {
            // What it has done so far is growth: `count_io` adds it.
            process.read_bytes = process.read_bytes.map(|_| 0);
            process.written_bytes = process.written_bytes.map(|_| 0);
        }
        Self {
            boot_id: sample.boot_id,
            threads: process.threads,
            last_threads: process.threads,
            process,
            first_ms: sample.wall_ms,
            last_ms: sample.wall_ms,
            peak_footprint_kib: 0,
            peak_footprint_ms: sample.wall_ms,
            peak_resident_kib: 0,
            peak_swap_kib: 0,
            peak_cpu_percent: None,
            status: None,
            bounds,
            inherited: Bytes::default(),
            has_unknown_io: false,
            io_is_absent: false,
            is_cut: false,
            // As in the log, the first interval begins with the last sample, not with the start of the process.
            at_ns: born_after_ns.filter(|_| born).unwrap_or(at_ns),
            cpu_us: base.cpu_us,
            base,
        }
    }

    #[inline]
    fn see(&mut self, process: &Process, wall_ms: i64, at_ns: u64, bounds: CpuBounds) {
        let cpu_us = process.cpu_us();
        self.threads = self.threads.max(process.threads);
        if cpu_us != self.cpu_us || self.peak_cpu_percent.is_none() {
            let (grown_us, elapsed_ns) =
                (cpu_us.saturating_sub(self.cpu_us), at_ns.saturating_sub(self.at_ns));
            let share = bounds.percent(grown_us, elapsed_ns, process.threads.max(self.last_threads));
            self.peak_cpu_percent = match (self.peak_cpu_percent, share) {
                (Some(peak), Some(share)) => Some(peak.max(share)),
                (peak, share) => peak.or(share),
            };
        }
        self.last_threads = process.threads;
        self.cpu_us = cpu_us;
        self.at_ns = at_ns;
        self.last_ms = wall_ms;
        let footprint_kib = process.footprint_kib();
        if footprint_kib > self.peak_footprint_kib {
            self.peak_footprint_kib = footprint_kib;
            self.peak_footprint_ms = wall_ms;
        }
        self.peak_resident_kib = self.peak_resident_kib.max(process.resident_kib);
        self.peak_swap_kib = self.peak_swap_kib.max(process.swap_kib.unwrap_or(0));
        if !is_same(self.process.command.as_ref(), process.command.as_ref())
            || !is_same(self.process.cgroup.as_ref(), process.cgroup.as_ref())
        {
            self.rename(process);
        }
    }

    /// Takes the next counters. Nothing counts as the process's own in an interval in which it may have inherited I/O,
    /// or that begins or ends without counters.
    #[inline]
    fn count_io(&mut self, read: Option<u64>, written: Option<u64>, may_inherit: bool) {
        let is_absent = read.is_none() && written.is_none();
        if may_inherit || is_absent || self.io_is_absent {
            let before = Bytes::counted(self.process.read_bytes, self.process.written_bytes);
            self.inherited = self.inherited.plus(Bytes::counted(read, written).without(before));
            self.has_unknown_io = true;
        }
        self.io_is_absent = is_absent;
        self.process.read_bytes = read.or(self.process.read_bytes);
        self.process.written_bytes = written.or(self.process.written_bytes);
    }

    #[cold]
    fn rename(&mut self, process: &Process) {
        self.process.comm = Arc::clone(&process.comm);
        self.process.user.clone_from(&process.user);
        self.process.uid = process.uid;
        self.process.cgroup.clone_from(&process.cgroup);
        // A zombie has lost its command line.
        if process.command.is_some() {
            self.process.command.clone_from(&process.command);
        }
    }

    fn end(&mut self, exit: &Exit, wall_ms: i64) {
        self.status = Some(exit.status);
        self.last_ms = wall_ms;
        self.at_ns = self.at_ns.max(exit.at_ns);
        self.cpu_us = self.cpu_us.max(exit.user_us.saturating_add(exit.system_us));
        self.peak_resident_kib = self.peak_resident_kib.max(exit.peak_kib);
        let read = self.process.read_bytes.max(Some(exit.read_bytes));
        let written = self.process.written_bytes.max(Some(exit.written_bytes));
        self.count_io(read, written, false);
    }
}

/// Whether two texts are the same allocation; equal texts nearly always are.
#[inline]
fn is_same(a: Option<&Arc<str>>, b: Option<&Arc<str>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// Turns samples, oldest first, into one track per process.
#[derive(Debug)]
#[expect(clippy::vec_box, reason = "tracks are large, and all are moved when a process comes or goes")]
pub(crate) struct Summary {
    query: Query,
    boot_id: BootId,
    /// Processes of the last sample, in its order.
    live: Vec<Box<Track>>,
    ended: Vec<Box<Track>>,
    parents: Parents,
    /// Indices of the selected processes; a buffer that is reused.
    places: Vec<usize>,
    /// Time since boot of the last sample of this boot, ns.
    last_ns: Option<u64>,
    /// Duration of that sample's sweep, ns.
    sweep_ns: u64,
    /// Tracks in `ended` from this index on ended with the current sample.
    settled: usize,
    seen: bool,
    unseen_exits: u64,
}

impl Summary {
    /// An empty summary.
    pub(crate) fn new(query: Query) -> Self {
        Self {
            query,
            boot_id: BootId::default(),
            live: Vec::new(),
            ended: Vec::new(),
            parents: Parents::default(),
            places: Vec::new(),
            last_ns: None,
            sweep_ns: 0,
            settled: 0,
            seen: false,
            unseen_exits: 0,
        }
    }

    /// Whether any sample was inside the window.
    pub(crate) fn has_seen(&self) -> bool {
        self.seen
    }

    /// Number of processes that exited without being in any sample.
    pub(crate) fn unseen_exits(&self) -> u64 {
        self.unseen_exits
    }

    /// Adds the next sample.
    pub(crate) fn push(&mut self, sample: &Sample) {
        // Before the window too: a child's I/O may arrive after the child's last sample.
        self.parents = self.parents.after(sample);
        if !self.query.spans(timestamp(sample.wall_ms)) {
            return;
        }
        self.seen = true;
        if sample.boot_id != self.boot_id {
            self.boot_id = sample.boot_id;
            self.last_ns = None;
            self.ended.append(&mut self.live);
        }
        self.settled = self.ended.len();
        self.query.selection.places(&sample.processes, &mut self.places);
        // Usually the processes are the same as in the previous sample. Seeing a process twice does no harm.
        if !self.see(sample) {
            self.regroup(sample);
            self.see(sample);
        }
        self.exits(sample);
        // Otherwise it is unknown what children left: no I/O of their parents counts.
        if sample.sources.has(Sources::EXITS) {
            self.pass_on(sample);
        }
        self.sweep_ns = sample.sweep_ns;
        self.last_ns = Some(sample.boottime_ns);
    }

    /// Updates the tracks while the processes match the previous sample; returns whether all matched.
    fn see(&mut self, sample: &Sample) -> bool {
        let bounds = CpuBounds::of(sample, self.sweep_ns);
        let step_ns = sample.sweep_ns as f64 / sample.processes.len().max(1) as f64;
        for (place, track) in self.places.iter().zip(&mut self.live) {
            let process = &sample.processes[*place];
            if process.identity != track.process.identity {
                return false;
            }
            let at_ns = sample.boottime_ns.saturating_add((step_ns * *place as f64) as u64);
            track.see(process, sample.wall_ms, at_ns, bounds);
            let may_inherit = self.parents.has(process.identity.pid);
            track.count_io(process.read_bytes, process.written_bytes, may_inherit);
        }
        self.places.len() == self.live.len()
    }

    /// Reorders the tracks to match the sample: removes exited processes, adds new ones.
    fn regroup(&mut self, sample: &Sample) {
        let bounds = CpuBounds::of(sample, self.sweep_ns);
        let mut old = std::mem::take(&mut self.live).into_iter().peekable();
        let step_ns = sample.sweep_ns as f64 / sample.processes.len().max(1) as f64;
        for place in &self.places {
            let process = &sample.processes[*place];
            while let Some(gone) = old.next_if(|track| track.process.identity < process.identity) {
                self.ended.push(gone);
            }
            let known = old.next_if(|track| track.process.identity == process.identity);
            let at_ns = sample.boottime_ns.saturating_add((step_ns * *place as f64) as u64);
            let new = || Box::new(Track::new(sample, process, at_ns, self.last_ns, bounds));
            self.live.push(known.unwrap_or_else(new));
        }
        self.ended.extend(old);
    }

    fn exits(&mut self, sample: &Sample) {
        let groups = sample.exit_groups.iter().map(|group| group.count);
        self.unseen_exits = groups.fold(self.unseen_exits, u64::saturating_add);
        // Exited processes were usually in the previous sample: near the end of the list.
        let recent = self.ended.len().saturating_sub(self.live.len() + 2 * sample.exits.len());
        for exit in &sample.exits {
            let live = self.live.binary_search_by_key(&exit.identity, |track| track.process.identity);
            let is_it = |track: &&mut Box<Track>| {
                track.process.identity == exit.identity && track.boot_id == self.boot_id
            };
            let track = match live {
                Ok(index) => Some(&mut self.live[index]),
                Err(_) => self.ended[recent..].iter_mut().rev().find(is_it),
            };
            match track {
                Some(track) => track.end(exit, sample.wall_ms),
                None => self.unseen_exits = self.unseen_exits.saturating_add(1),
            }
        }
    }

    /// Passes the I/O of exited processes on to their living parents.
    fn pass_on(&mut self, sample: &Sample) {
        let (live, ended) = (&mut self.live, &self.ended[self.settled..]);
        let unseen = sample.exits.iter().filter(|exit| {
            let is_live = live.binary_search_by_key(&exit.identity, |track| track.process.identity).is_ok();
            !is_live && !ended.iter().any(|track| track.process.identity == exit.identity)
        });
        let unseen =
            unseen.map(|exit| Ended { identity: exit.identity, parent: exit.parent, bytes: Bytes::of(exit) });
        let left = inherited::by_parent(ended.iter().map(|track| track.ended()).chain(unseen).collect());
        for (parent, bytes) in left {
            let behind = live.partition_point(|track| track.process.identity.pid <= parent);
            if let Some(track) =
                live[..behind].last_mut().filter(|track| track.process.identity.pid == parent)
            {
                track.inherited = track.inherited.plus(bytes);
            }
        }
    }

    /// Number of selected processes that [`Summary::finish`] leaves out, because they are not among the largest.
    pub(crate) fn left_out(&self) -> usize {
        let selection = &self.query.selection;
        let selected = self.ended.iter().chain(&self.live).filter(|track| selection.admits(&track.process));
        selected.count().saturating_sub(self.query.top.unwrap_or(usize::MAX))
    }

    /// The selected tracks, largest first, unknown ones last.
    pub(crate) fn finish(mut self) -> Vec<Track> {
        for track in &mut self.ended {
            track.is_cut = track.status.is_none();
        }
        self.ended.append(&mut self.live);
        let selection = &self.query.selection;
        self.ended.retain(|track| selection.admits(&track.process));
        let key = |track: &Track| match self.query.sort {
            Sort::Cpu => Some(track.cpu_us()),
            Sort::Rss => Some(track.peak_resident_kib),
            Sort::Swap => Some(track.peak_swap_kib),
            Sort::Footprint => Some(track.peak_footprint_kib),
            Sort::Io => track.io_bytes(),
        };
        // `None` is less than any value.
        self.ended.sort_by_key(|track| std::cmp::Reverse((key(track), track.peak_footprint_kib)));
        self.ended.truncate(self.query.top.unwrap_or(usize::MAX));
        self.ended.into_iter().map(|track| *track).collect()
    }
}
