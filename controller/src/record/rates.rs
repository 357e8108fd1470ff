//! Rates between two samples. Only the counters needed for rates are kept from the previous sample.

use record::{BootId, Identity, Process, Sample, Sources};

use super::inherited::{self, Bytes, Ended, Inherited, Parents};

/// Maximum error of CPU time in /proc, µs: user and system time are in whole ticks (proc_pid_stat(5)).
const TICKS_US: u64 = 20_000;

/// Number of previous samples to keep so that it is known whose I/O a counter shows.
pub(crate) const PAST: usize = inherited::LATE as usize;

/// A process's activity per second of the interval. Values are absent if an older process was not in the previous
/// sample, or if the host does not provide them. I/O is also absent if it may be that of children whose exits are not
/// recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// CPU share, 100 for one CPU.
    pub cpu_percent: Option<f64>,
    /// Time spent runnable without a CPU, all threads; 100 for one thread all the time.
    pub wait_percent: Option<f64>,
    /// Page faults that needed the disk, per second.
    pub major_faults: Option<f64>,
    /// Bytes per second read from storage, without those of exited children.
    pub read_bytes: Option<f64>,
    /// Bytes per second written to storage, without those of exited children.
    pub written_bytes: Option<f64>,
}

impl Rates {
    /// Bytes per second read and written; absent if both are unknown.
    pub fn io_bytes(&self) -> Option<f64> {
        let known = self.read_bytes.or(self.written_bytes);
        known.map(|_| self.read_bytes.unwrap_or(0.0) + self.written_bytes.unwrap_or(0.0))
    }

    fn without_io(self) -> Self {
        Self { read_bytes: None, written_bytes: None, ..self }
    }
}

/// Values kept from the previous sample.
#[derive(Clone, Debug, Default)]
pub(crate) struct Before {
    /// Boot id of the sample.
    pub boot_id: BootId,
    /// Wall time, ms since the Unix epoch.
    pub wall_ms: i64,
    /// Time since boot, ns.
    pub boottime_ns: u64,
    /// Planned interval, ms.
    pub interval_ms: u32,
    /// Start time of the recorder, ns since boot.
    pub own_start_ns: u64,
    /// Samples dropped since the recorder started.
    pub dropped: u64,
    /// Out-of-memory kills on this host since boot.
    pub own_kills: Option<u64>,
    /// Duration of the sweep, ns.
    sweep_ns: u64,
    inherited: Inherited,
    parents: Parents,
    counters: Vec<Counters>,
}

/// Values kept for a process.
#[derive(Clone, Copy, Debug)]
struct Counters {
    identity: Identity,
    parent: u32,
    at_ns: u64,
    threads: u32,
    cpu_us: u64,
    wait_us: Option<u64>,
    major_faults: u64,
    read_bytes: Option<u64>,
    written_bytes: Option<u64>,
}

impl Before {
    /// Replaces the kept sample with this one.
    pub(crate) fn keep(&mut self, sample: &Sample) {
        self.keep_of(sample, 0..sample.processes.len());
    }

    /// As [`Before::keep`], but only for the processes at these indices.
    pub(crate) fn keep_of(&mut self, sample: &Sample, places: impl IntoIterator<Item = usize>) {
        self.inherited = self.settled(sample);
        self.parents = self.parents.after(sample);
        self.sweep_ns = sample.sweep_ns;
        self.boot_id = sample.boot_id;
        self.wall_ms = sample.wall_ms;
        self.boottime_ns = sample.boottime_ns;
        self.interval_ms = sample.interval_ms;
        self.own_start_ns = sample.own_start_ns;
        self.dropped = sample.dropped;
        self.own_kills = sample.own_kills();
        self.counters.clear();
        self.counters.extend(places.into_iter().map(|place| {
            let process = &sample.processes[place];
            Counters {
                identity: process.identity,
                parent: process.parent,
                at_ns: read_at(sample, place),
                threads: process.threads,
                cpu_us: process.cpu_us(),
                wait_us: process.wait_us,
                major_faults: process.major_faults,
                read_bytes: process.read_bytes,
                written_bytes: process.written_bytes,
            }
        }));
    }

    /// The rates of all processes of the next sample, in its order. It must be from the same boot.
    pub(crate) fn rates(&self, sample: &Sample) -> impl Iterator<Item = Rates> {
        self.rates_of(sample, 0..sample.processes.len())
    }

    /// As [`Before::rates`], but only for the processes at these indices, which must ascend.
    pub(crate) fn rates_of(
        &self,
        sample: &Sample,
        places: impl IntoIterator<Item = usize>,
    ) -> impl Iterator<Item = Rates> {
        let mut rest = self.counters.as_slice();
        let inherited = self.inherited_by(sample);
        let parents = self.parents.after(sample);
        let bounds = CpuBounds::of(sample, self.sweep_ns);
        places.into_iter().map(move |place| {
            let process = &sample.processes[place];
            // Both lists are sorted by identity: skip kept processes that this sample no longer has.
            let gone = rest.iter().take_while(|before| before.identity < process.identity).count();
            rest = &rest[gone..];
            let before = rest.first().filter(|before| before.identity == process.identity).copied();
            // A process that started since then did everything since then.
            let born = || {
                (process.identity.started_ns >= self.boottime_ns)
                    .then_some(Counters::none(process.identity, self.boottime_ns))
            };
            let rates = before
                .or_else(born)
                .map(|before| between(&before, process, read_at(sample, place), bounds, &inherited))
                .unwrap_or_default();
            if parents.has(process.identity.pid) { rates.without_io() } else { rates }
        })
    }

    /// What exited processes have left to their parents up to this sample, as far as exits are recorded.
    fn inherited_by(&self, sample: &Sample) -> Inherited {
        if sample.sources.has(Sources::EXITS) {
            self.inherited.after(self.gone(sample), sample)
        } else {
            Inherited::default()
        }
    }

    /// Kept processes that are missing from this sample.
    fn gone<'a>(&'a self, sample: &'a Sample) -> impl Iterator<Item = Ended> + 'a {
        let mut rest = sample.processes.as_slice();
        let is_gone = move |counters: &&Counters| {
            let passed = rest.iter().take_while(|process| process.identity < counters.identity).count();
            rest = &rest[passed..];
            rest.first().is_none_or(|process| process.identity != counters.identity)
        };
        self.counters.iter().filter(is_gone).map(|counters| Ended {
            identity: counters.identity,
            parent: counters.parent,
            bytes: counters.bytes().unwrap_or_default(),
        })
    }

    /// Inherited I/O that the parents' counters do not show yet after this sample. The first sample's counters already
    /// include everything before it.
    fn settled(&self, sample: &Sample) -> Inherited {
        if self.boot_id != sample.boot_id || self.counters.is_empty() {
            return Inherited::default();
        }
        let mut inherited = self.inherited_by(sample);
        inherited.settle(|pid| {
            // Several kept processes may have had this pid: the last one started last.
            let behind = self.counters.partition_point(|counters| counters.identity.pid <= pid);
            let before = self.counters[..behind].last().filter(|counters| counters.identity.pid == pid)?;
            let place =
                sample.processes.binary_search_by_key(&before.identity, |process| process.identity).ok()?;
            let Process { read_bytes, written_bytes, .. } = sample.processes[place];
            Some(Bytes { read: read_bytes?, written: written_bytes? }.without(before.bytes()?))
        });
        inherited
    }
}

impl Counters {
    /// Counters of a process that has done nothing yet.
    fn none(identity: Identity, at_ns: u64) -> Self {
        Self {
            identity,
            parent: 0,
            at_ns,
            threads: 0,
            cpu_us: 0,
            wait_us: Some(0),
            major_faults: 0,
            read_bytes: Some(0),
            written_bytes: Some(0),
        }
    }

    fn bytes(&self) -> Option<Bytes> {
        Some(Bytes { read: self.read_bytes?, written: self.written_bytes? })
    }
}

/// Bounds of the CPU time that a process can have used in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CpuBounds {
    cpus: Option<u64>,
    /// Maximum error of elapsed and CPU time, µs: the time when a process was read is only known to within the sweep.
    slack_us: u64,
}

impl CpuBounds {
    /// Bounds between this sample and the previous one, whose sweep took `sweep_before_ns`.
    pub(super) fn of(sample: &Sample, sweep_before_ns: u64) -> Self {
        let sweeps_us = sample.sweep_ns.saturating_add(sweep_before_ns) / 1_000;
        Self { cpus: sample.host.cpus, slack_us: TICKS_US.saturating_add(sweeps_us) }
    }

    /// The CPU share of a process with this many threads (0 if unknown), 100 for one CPU. A thread uses one CPU at a
    /// time: a small excess is a measuring error and is cut, a large one comes from threads that no sample shows.
    pub(super) fn percent(self, cpu_us: u64, elapsed_ns: u64, threads: u32) -> Option<f64> {
        let threads = u64::from(threads);
        let believable_us = (elapsed_ns / 1_000).saturating_mul(threads).saturating_add(self.slack_us);
        let at_once = if threads > 0 && cpu_us <= believable_us { threads } else { u64::MAX };
        let most = 100.0 * at_once.min(self.cpus.filter(|cpus| *cpus > 0).unwrap_or(u64::MAX)) as f64;
        (elapsed_ns > 0).then(|| (cpu_us as f64 * 100_000.0 / elapsed_ns as f64).min(most))
    }
}

fn between(
    before: &Counters,
    process: &Process,
    now_ns: u64,
    bounds: CpuBounds,
    inherited: &Inherited,
) -> Rates {
    let Some(elapsed_ns) = now_ns.checked_sub(before.at_ns).filter(|elapsed| *elapsed > 0) else {
        return Rates::default();
    };
    let seconds = elapsed_ns as f64 / 1e9;
    // Counters only grow; a smaller value is a correction by the kernel.
    let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
    let optional = |before: Option<u64>, now: Option<u64>| Some(rate(before?, now?));
    // 1 µs per second is 10⁻⁴ percent of a CPU.
    let percent = |us_per_s: f64| us_per_s / 1e4;
    let cpu_us = process.cpu_us().saturating_sub(before.cpu_us);
    let grown = |before: Option<u64>, now: Option<u64>| Some(now?.saturating_sub(before?));
    let read = grown(before.read_bytes, process.read_bytes);
    let written = grown(before.written_bytes, process.written_bytes);
    let moved = Bytes { read: read.unwrap_or(0), written: written.unwrap_or(0) };
    let own = inherited.own(process.identity.pid, moved);
    Rates {
        cpu_percent: bounds.percent(cpu_us, elapsed_ns, process.threads.max(before.threads)),
        wait_percent: optional(before.wait_us, process.wait_us).map(percent),
        major_faults: Some(rate(before.major_faults, process.major_faults)),
        read_bytes: read.map(|_| own.read as f64 / seconds),
        written_bytes: written.map(|_| own.written as f64 / seconds),
    }
}

/// When the process at `index` was read, ns since boot: on a struggling host, a sweep takes long.
fn read_at(sample: &Sample, index: usize) -> u64 {
    let share = index as f64 / sample.processes.len().max(1) as f64;
    sample.boottime_ns.saturating_add((sample.sweep_ns as f64 * share) as u64)
}

#[cfg(test)]
mod tests {
    use record::{Exit, HostCounters};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn process(pid: u32, parent: u32, cpu_us: u64, read_bytes: u64) -> Process {
        Process {
            parent,
            threads: 1,
            user_us: cpu_us,
            read_bytes: Some(read_bytes),
            written_bytes: Some(0),
            ..Process::bare(Identity { pid, started_ns: u64::from(pid) })
        }
    }

    fn sample(at_ms: u64, processes: Vec<Process>) -> Sample {
        let host = HostCounters { cpus: Some(2), ..HostCounters::default() };
        let boottime_ns = 100 * SECOND + at_ms * 1_000_000;
        Sample { boottime_ns, sources: Sources::EXITS, host, processes, ..Sample::default() }
    }

    /// The same on a host that cannot record exits.
    fn unrecorded(at_ms: u64, processes: Vec<Process>) -> Sample {
        Sample { sources: Sources::default(), ..sample(at_ms, processes) }
    }

    fn exit(pid: u32, parent: u32, read_bytes: u64) -> Exit {
        Exit {
            identity: Identity { pid, started_ns: pid.into() },
            parent,
            uid: 0,
            comm: "dd".into(),
            at_ns: 0,
            lived_us: 0,
            user_us: 0,
            system_us: 0,
            peak_kib: 0,
            status: 0,
            major_faults: 0,
            read_bytes,
            written_bytes: 0,
        }
    }

    /// The rates of all processes of each sample except the first.
    fn rates(samples: &[Sample]) -> Vec<Vec<Rates>> {
        let mut before = Before::default();
        let mut all = Vec::new();
        for sample in samples {
            all.push(before.rates(sample).collect());
            before.keep(sample);
        }
        all.split_off(1)
    }

    #[test]
    fn a_thread_uses_one_cpu_and_a_process_no_more_than_exist() {
        let share = |threads, cpu_us| {
            let now = Process { threads, ..process(1, 0, cpu_us, 0) };
            let rates = rates(&[sample(0, vec![process(1, 0, 0, 0)]), sample(250, vec![now])]);
            rates[0][0].cpu_percent.map(f64::round)
        };
        assert_eq!(share(1, 240_000), Some(96.0));
        assert_eq!(share(1, 265_000), Some(100.0), "two /proc ticks more than the elapsed time");
        assert_eq!(share(2, 490_000), Some(196.0));
        assert_eq!(share(2, 560_000), Some(200.0));
        assert_eq!(share(1, 400_000), Some(160.0), "threads that came and went between two samples");
        assert_eq!(share(9, 700_000), Some(200.0), "there are two CPUs");
    }

    fn read_rates(samples: &[Sample]) -> Vec<Vec<Option<f64>>> {
        rates(samples).iter().map(|rates| rates.iter().map(|rates| rates.read_bytes).collect()).collect()
    }

    #[test]
    fn a_childs_reads_do_not_count_for_its_parent() {
        // Two children were sampled, one of which read more since; a third was not, and had a child of its own.
        let mut after = sample(1_000, vec![process(1, 0, 0, 10_000 + 4_000 + 700 + 50 + 2)]);
        after.exits = vec![exit(9, 8, 2), exit(8, 1, 50), exit(7, 1, 700), exit(6, 5, 4_000)];
        let before =
            [process(1, 0, 0, 10_000), process(5, 1, 0, 0), process(6, 5, 0, 3_000), process(7, 1, 0, 500)];
        assert_eq!(read_rates(&[sample(0, before.to_vec()), after]), [[Some(0.0)]]);
    }

    #[test]
    fn of_a_process_whose_exit_was_lost_the_last_counters_count() {
        let before = sample(0, vec![process(1, 0, 0, 100), process(7, 1, 0, 500)]);
        // The parent's counter is read too early, then late.
        let early = sample(1_000, vec![process(1, 0, 0, 100)]);
        let late = sample(2_000, vec![process(1, 0, 0, 100 + 500 + 30)]);
        let after = sample(3_000, vec![process(1, 0, 0, 100 + 500 + 30 + 40)]);
        let expected = [[Some(0.0)], [Some(30.0)], [Some(40.0)]];
        assert_eq!(read_rates(&[before, early, late, after]), expected);
    }

    #[test]
    fn without_recorded_exits_a_parents_io_is_unknown_until_its_childs_has_arrived() {
        let alone = |second: u64| unrecorded(second * 1_000, vec![process(1, 0, 0, 100 + 700 + 40 * second)]);
        let with_child = unrecorded(0, vec![process(1, 0, 0, 100), process(7, 1, 0, 500)]);
        let late = u64::from(inherited::LATE);
        let samples: Vec<_> = [with_child].into_iter().chain((1..=late + 2).map(alone)).collect();
        let rates = read_rates(&samples).concat();
        let (unknown, known) = rates.split_at(PAST);
        assert!(unknown.iter().all(Option::is_none), "{unknown:?}");
        assert_eq!(known, [Some(40.0); 2]);
    }

    #[test]
    fn a_parents_io_is_unknown_too_if_no_other_process_is_selected() {
        let before = unrecorded(0, vec![process(1, 0, 0, 100), process(7, 1, 0, 500)]);
        let after = unrecorded(1_000, vec![process(1, 0, 0, 100 + 700)]);
        let mut kept = Before::default();
        kept.keep_of(&before, [0]);
        let rates: Vec<_> = kept.rates_of(&after, [0]).map(|rates| rates.read_bytes).collect();
        assert_eq!(rates, [None]);
    }

    #[test]
    fn without_recorded_exits_the_io_of_a_process_without_children_is_known() {
        let at = |second: u64| {
            unrecorded(second * 1_000, vec![process(1, 0, 0, 9 * second), process(7, 1, 0, 70 * second)])
        };
        assert_eq!(read_rates(&[at(0), at(1)]), [[None, Some(70.0)]]);
    }

    #[test]
    fn counters_that_the_recorder_left_out_are_unknown_until_there_are_two_again() {
        // A child that no sample shows: the recorder saw that its parent had waited for it.
        let at = |second: u64, read_bytes| {
            unrecorded(second * 1_000, vec![Process { read_bytes, ..process(5, 0, 0, 0) }])
        };
        let samples = [at(0, Some(100)), at(1, None), at(2, Some(900)), at(3, Some(910))];
        assert_eq!(read_rates(&samples), [[None], [None], [Some(10.0)]]);
    }

    #[test]
    fn a_zombie_leaves_nothing_until_it_is_reaped() {
        let mut dying = sample(1_000, vec![process(1, 0, 0, 100), process(7, 1, 0, 500)]);
        dying.exits = vec![exit(7, 1, 500)];
        let own = sample(2_000, vec![process(1, 0, 0, 160), process(7, 1, 0, 500)]);
        let waited = sample(3_000, vec![process(1, 0, 0, 160 + 500)]);
        let before = sample(0, vec![process(1, 0, 0, 100), process(7, 1, 0, 0)]);
        let rates = read_rates(&[before, dying, own, waited]);
        assert_eq!(rates.iter().map(|rates| rates[0]).collect::<Vec<_>>(), [0.0, 60.0, 0.0].map(Some));
    }
}
