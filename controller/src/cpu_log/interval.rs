//! Rates: what a process did between two samples. Of the sample before, only what rates are computed from is kept.

use proto::history::{BootId, Identity, Process, Sample};

/// What a process did, for each second of the interval. Absent if it was not seen before but is older, or where the
/// host cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// CPU share, 100 for one CPU.
    pub cpu_percent: Option<f64>,
    /// Time that it was runnable and had no CPU, all threads, 100 for one thread all the time.
    pub wait_percent: Option<f64>,
    /// Page faults that needed the disk.
    pub major_faults: Option<f64>,
    /// Bytes read from storage.
    pub read_bytes: Option<f64>,
    /// Bytes written to storage.
    pub written_bytes: Option<f64>,
}

impl Rates {
    /// Bytes read and written; 0 where that is not known.
    pub fn io_bytes(&self) -> f64 {
        self.read_bytes.unwrap_or(0.0) + self.written_bytes.unwrap_or(0.0)
    }
}

/// What is kept of a sample.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The boot that it is of.
    pub boot_id: BootId,
    /// Wall time, ms since the Unix epoch.
    pub wall_ms: i64,
    /// Time since boot, ns.
    pub boottime_ns: u64,
    /// Planned interval, ms.
    pub interval_ms: u32,
    /// When the recorder was started, ns since boot.
    pub own_start_ns: u64,
    /// Samples that could not be stored.
    pub dropped: u64,
    /// Kills for want of memory on the host since boot.
    pub own_kills: Option<u64>,
    counters: Vec<Counters>,
}

/// What is kept of a process.
#[derive(Clone, Copy, Debug)]
struct Counters {
    identity: Identity,
    at_ns: u64,
    cpu_us: u64,
    wait_us: Option<u64>,
    major_faults: u64,
    read_bytes: Option<u64>,
    written_bytes: Option<u64>,
}

impl Before {
    /// Takes the place of the sample that was kept.
    pub fn keep(&mut self, sample: &Sample) {
        self.keep_of(sample, 0..sample.processes.len());
    }

    /// As [`Before::keep`], but only of the processes at these places.
    pub fn keep_of(&mut self, sample: &Sample, places: impl IntoIterator<Item = usize>) {
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
                at_ns: read_at(sample, place),
                cpu_us: process.cpu_us(),
                wait_us: process.wait_us,
                major_faults: process.major_faults,
                read_bytes: process.read_bytes,
                written_bytes: process.written_bytes,
            }
        }));
    }

    /// The rates of each process of the next sample of the same boot, in its order.
    pub fn rates(&self, sample: &Sample) -> impl Iterator<Item = Rates> {
        self.rates_of(sample, 0..sample.processes.len())
    }

    /// As [`Before::rates`], but only of the processes at these places, which must ascend.
    pub fn rates_of(
        &self,
        sample: &Sample,
        places: impl IntoIterator<Item = usize>,
    ) -> impl Iterator<Item = Rates> {
        let mut rest = self.counters.as_slice();
        places.into_iter().map(move |place| {
            let process = &sample.processes[place];
            let gone = rest.iter().take_while(|before| before.identity < process.identity).count();
            rest = &rest[gone..];
            let before = rest.first().filter(|before| before.identity == process.identity).copied();
            // One that started since then has done everything since then.
            let born = || {
                (process.identity.started_ns >= self.boottime_ns)
                    .then_some(Counters::none(process.identity, self.boottime_ns))
            };
            before
                .or_else(born)
                .map(|before| between(&before, process, read_at(sample, place)))
                .unwrap_or_default()
        })
    }
}

impl Counters {
    /// Those of a process that has not done anything yet.
    fn none(identity: Identity, at_ns: u64) -> Self {
        Self {
            identity,
            at_ns,
            cpu_us: 0,
            wait_us: Some(0),
            major_faults: 0,
            read_bytes: Some(0),
            written_bytes: Some(0),
        }
    }
}

fn between(before: &Counters, process: &Process, now_ns: u64) -> Rates {
    let Some(elapsed_ns) = now_ns.checked_sub(before.at_ns).filter(|elapsed| *elapsed > 0) else {
        return Rates::default();
    };
    let seconds = elapsed_ns as f64 / 1e9;
    // The counters only grow; a smaller one would be the kernel's own correction.
    let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
    let optional = |before: Option<u64>, now: Option<u64>| Some(rate(before?, now?));
    // A millionth of a CPU is 10⁻⁴ percent.
    let percent = |us_per_s: f64| us_per_s / 1e4;
    Rates {
        cpu_percent: Some(percent(rate(before.cpu_us, process.cpu_us()))),
        wait_percent: optional(before.wait_us, process.wait_us).map(percent),
        major_faults: Some(rate(before.major_faults, process.major_faults)),
        read_bytes: optional(before.read_bytes, process.read_bytes),
        written_bytes: optional(before.written_bytes, process.written_bytes),
    }
}

/// When the process at `index` was read, ns since boot: a sweep takes time, and on a struggling host much.
fn read_at(sample: &Sample, index: usize) -> u64 {
    let share = index as f64 / sample.processes.len().max(1) as f64;
    sample.boottime_ns.saturating_add((sample.sweep_ns as f64 * share) as u64)
}
