//! Measures the cost of a sample for one recorder and one workload.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    Result,
    meter::{Cpu, Memory, Metered, Thread},
    recorders::{Recorder, Store, Tally},
};

/// Timeout for those samples.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often memory is measured.
const LOOK: Duration = Duration::from_millis(100);

/// Costs per sample, and the recorder's memory meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cost {
    /// CPU time in user mode, ms per sample.
    pub(crate) user_ms: f64,
    /// CPU time in the kernel, ms per sample.
    pub(crate) system_ms: f64,
    /// Bytes per sample in the store.
    pub(crate) bytes: Option<f64>,
    /// Peak memory of all its processes together, KiB.
    pub(crate) resident_kib: u64,
    /// Locked address space, KiB.
    pub(crate) locked_kib: u64,
    /// CPU time of each thread, ms per sample, with the thread's name.
    pub(crate) threads: Vec<(String, f64)>,
}

impl Cost {
    /// CPU time, ms per sample.
    pub(crate) fn cpu_ms(&self) -> f64 {
        self.user_ms + self.system_ms
    }
}

/// A recorder that has taken its first samples.
pub(crate) struct Running<'a> {
    recorder: &'a Recorder,
    directory: tempfile::TempDir,
    metered: Metered,
}

impl<'a> Running<'a> {
    /// Starts `recorder` in a new directory below `scratch`, and waits for its first samples.
    pub(crate) fn start(recorder: &'a Recorder, scratch: &Path) -> Result<Self> {
        let directory = tempfile::tempdir_in(scratch)?;
        let metered = Metered::start(&recorder.line, directory.path())?;
        let mut running = Self { recorder, directory, metered };
        let begun = Instant::now();
        while running.tally()?.samples < recorder.warm_up {
            if let Some(status) = running.metered.ended()? {
                return Err(format!("ended with {status}: {}", running.last_words()).into());
            }
            if begun.elapsed() > PATIENCE {
                return Err(
                    format!("took no {} samples in {} s", recorder.warm_up, PATIENCE.as_secs()).into()
                );
            }
            thread::sleep(LOOK);
        }
        Ok(running)
    }

    fn tally(&self) -> Result<Tally> {
        self.recorder.store.tally(self.directory.path())
    }

    /// The last line that the recorder printed.
    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.directory.path().join("output")).unwrap_or_default();
        text.lines().next_back().unwrap_or("without a word").to_owned()
    }

    fn reading(&self) -> Result<Reading> {
        // CPU time first: counting samples takes time.
        let (cpu, threads) = (self.metered.cpu()?, self.metered.threads()?);
        Ok(Reading { cpu, threads, tally: self.tally()? })
    }

    /// Measures the costs of running for at least this long.
    pub(crate) fn measure(&self, seconds: u64) -> Result<Cost> {
        self.until_sampled()?;
        let before = self.reading()?;
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut peak = Memory::default();
        while Instant::now() < end {
            let now = self.metered.memory()?;
            peak.resident_kib = peak.resident_kib.max(now.resident_kib);
            peak.locked_kib = peak.locked_kib.max(now.locked_kib);
            thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
        }
        self.until_sampled()?;
        let after = self.reading()?;
        if after.tally.samples == before.tally.samples {
            return Err(format!("took no sample in {seconds} s").into());
        }
        Ok(cost(&before, &after, peak))
    }

    /// Waits for the next sample, so that complete samples are measured. Magpie samples at whole seconds.
    fn until_sampled(&self) -> Result<()> {
        if matches!(self.recorder.store, Store::Magpie) {
            until_between_seconds();
            return Ok(());
        }
        let before = self.tally()?.samples;
        let deadline = Instant::now() + PATIENCE;
        while self.tally()?.samples == before && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        self.metered.cpu()
    }

    /// Stops the recorder; its output stays in the directory.
    pub(crate) fn end(self) -> tempfile::TempDir {
        self.metered.end();
        self.directory
    }
}

/// Measurements at one moment.
struct Reading {
    cpu: Cpu,
    threads: Vec<Thread>,
    tally: Tally,
}

fn cost(before: &Reading, after: &Reading, peak: Memory) -> Cost {
    let samples = (after.tally.samples - before.tally.samples) as f64;
    let cpu = after.cpu.since(before.cpu);
    let thread = |thread: &Thread| {
        let same = before.threads.iter().find(|other| other.id == thread.id);
        let ns = thread.cpu_ns - same.map_or(0, |before| before.cpu_ns);
        (thread.name.clone(), ns as f64 / 1e6 / samples)
    };
    Cost {
        user_ms: cpu.user_us as f64 / 1e3 / samples,
        system_ms: cpu.system_us as f64 / 1e3 / samples,
        bytes: after
            .tally
            .bytes
            .zip(before.tally.bytes)
            .map(|(after, before)| (after - before) as f64 / samples),
        resident_kib: peak.resident_kib,
        locked_kib: peak.locked_kib,
        threads: after.threads.iter().map(thread).collect(),
    }
}

/// Offset after a whole second at which its sample is complete and the next one has not started.
fn until_between_seconds() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let past = Duration::from_nanos(now.subsec_nanos().into());
    let wanted = Duration::from_millis(700);
    thread::sleep(if past < wanted { wanted - past } else { wanted + Duration::from_secs(1) - past });
}
