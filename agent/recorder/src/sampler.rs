//! Takes a sample: reads all sources in turn, into reused memory.

use std::{io, mem, time::Duration};

use nix::time::{ClockId, clock_gettime};
use record::{BootId, Collector as Kind, Event, EventKind, Sample, Sources};

use super::{
    Error, Options,
    clock::Moment,
    collector::{self, Collector, Effort},
    details::Details,
    exits::{ExitBuffer, Exits},
    harden,
    host::Host,
    kernel_log::{Clocks, KernelLog},
    nanoseconds, page_kib, scope,
    stacks::Stalls,
    table::Table,
};

/// How long a sample waits for details, for example of new processes; late details appear in a later sample.
const PATIENCE: Duration = Duration::from_millis(20);

/// Takes samples.
#[derive(Debug)]
pub(super) struct Sampler {
    sample: Sample,
    collector: Box<dyn Collector>,
    table: Table,
    details: Details,
    host: Host,
    exits: Option<Exits>,
    ended: ExitBuffer,
    kernel_log: Option<KernelLog>,
    stalls: Stalls,
    /// Notes to be stored with the next sample.
    notes: Vec<String>,
}

impl Sampler {
    /// Opens all available sources. `newest_ns` is the time of the newest stored sample of this boot; older kernel
    /// messages are already recorded. Fails only if processes cannot be read at all.
    pub(super) fn open(options: &Options, boot_id: BootId, newest_ns: u64) -> Result<Self, Error> {
        let now = Moment::now()?;
        let budget = harden::descriptor_budget();
        let page_kib = page_kib()?;
        let chosen = match options.collector {
            Some(kind) => collector::open(kind, &options.proc, page_kib, budget).map(|chosen| (chosen, None)),
            None => collector::choose(&options.proc, page_kib, budget),
        };
        let (collector, sentence) = chosen.map_err(Error::Sweep)?;
        let mut sampler = Self {
            sample: Sample { boot_id, own_start_ns: nanoseconds(now.boottime), ..Sample::default() },
            collector,
            table: Table::new(),
            details: Details::start(&options.proc, &options.passwd, &options.groups).map_err(Error::Sweep)?,
            host: Host::open(&options.proc, &options.sys, &options.groups, options.memory_limit, page_kib),
            exits: None,
            ended: ExitBuffer::default(),
            kernel_log: None,
            stalls: Stalls::default(),
            notes: Vec::new(),
        };
        sampler.note(sentence);
        if sampler.host.is_part_of_machine() {
            sampler.grant(Sources::PART_OF_MACHINE);
            sampler.note(Some(scope::NOTE.to_owned()));
        }
        sampler.exits = sampler.have(Sources::EXITS, Exits::open(&options.sys, nanoseconds(now.boottime)));
        sampler.kernel_log =
            sampler.have(Sources::KERNEL_LOG, KernelLog::open(&options.kernel_log, newest_ns));
        Ok(sampler)
    }

    /// The kind of the collector in use.
    pub(super) fn kind(&self) -> Kind {
        self.collector.kind()
    }

    /// Returns an opened source, or stores a note with the reason if there is none.
    pub(super) fn have<T, E: std::fmt::Display>(
        &mut self,
        source: Sources,
        opened: Result<T, E>,
    ) -> Option<T> {
        match opened {
            Ok(opened) => {
                self.grant(source);
                Some(opened)
            }
            Err(error) => {
                self.note(Some(error.to_string()));
                None
            }
        }
    }

    /// Marks sources as working.
    pub(super) fn grant(&mut self, sources: Sources) {
        self.sample.sources = self.sample.sources.with(sources);
    }

    /// Logs a note and stores it with the next sample.
    pub(super) fn note(&mut self, sentence: impl IntoIterator<Item = String>) {
        for sentence in sentence {
            tracing::info!("{sentence}");
            self.notes.push(sentence);
        }
    }

    /// Takes the sample that was due at `due` on the boot clock, `interval` after the previous one.
    pub(super) fn take(&mut self, due: Duration, interval: Interval, dropped: u64) -> Result<&Sample, Error> {
        let begun = Moment::now()?;
        let now_ns = nanoseconds(begun.boottime);
        self.sample.wall_ms = begun.wall.as_millis() as i64;
        self.sample.boottime_ns = now_ns;
        self.sample.late_ns = nanoseconds(begun.boottime.saturating_sub(due));
        self.sample.interval_ms = u32::try_from(interval.length.as_millis()).unwrap_or(u32::MAX);
        self.sample.fast = interval.fast;
        self.sample.dropped = dropped;
        self.sample.own_cpu_us =
            nanoseconds(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.into()) / 1_000;
        self.look_at_processes(begun, interval.effort).map_err(Error::Sweep)?;
        self.sample.host = self.host.read();
        self.host.disks().clone_into(&mut self.sample.disks);
        self.details.filesystems().clone_into(&mut self.sample.filesystems);
        self.details.groups().clone_into(&mut self.sample.groups);
        if self.stalls.note(now_ns, &self.sample.host) {
            self.details.ask_stacks(&self.sample.processes);
        }
        self.listen(now_ns)?;
        Ok(&self.sample)
    }

    fn look_at_processes(&mut self, begun: Moment, effort: Effort) -> io::Result<()> {
        self.table.exchange(&mut self.sample.processes);
        let swept = self.collector.sweep(&mut self.table, effort);
        // Rates refer to the time at which processes were read, so exclude later reads.
        self.sample.sweep_ns = nanoseconds(Moment::now()?.boottime.saturating_sub(begun.boottime));
        let patience = if effort == Effort::Full { PATIENCE } else { Duration::ZERO };
        self.details.exchange(&mut self.table, patience);
        self.table.inherit_cgroups();
        if self.exits.is_none() {
            self.table.leave_out_inherited_io();
        }
        self.table.exchange(&mut self.sample.processes);
        let swept = swept?;
        self.sample.collector = self.collector.kind();
        self.sample.listed = swept.listed;
        self.sample.rss_error_kib = swept.rss_error_kib;
        Ok(())
    }

    /// Collects what arrived since the last sample: process exits, kernel messages, notes.
    fn listen(&mut self, now_ns: u64) -> Result<(), Error> {
        let monotonic_ns = nanoseconds(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into());
        let Self { sample, table, details, exits, ended, kernel_log, notes, .. } = self;
        if let Some(exits) = exits {
            ended.clear();
            let processes = &sample.processes;
            // Usually the process is gone; a living one may be a zombie, or have a reused pid.
            let started_of = |pid| {
                let lives = processes.partition_point(|process| process.identity.pid <= pid);
                let lives = processes[..lives].last().map(|process| process.identity);
                let gone = table.gone_with(pid);
                [gone, lives.filter(|identity| identity.pid == pid).map(|identity| identity.started_ns)]
                    .into_iter()
                    .flatten()
            };
            // Include processes that ended during the sweep.
            let drained_ns = nanoseconds(Moment::now()?.boottime);
            exits.drain(drained_ns, now_ns.saturating_sub(monotonic_ns), started_of, ended);
            mem::swap(&mut sample.exits, &mut ended.exits);
            mem::swap(&mut sample.exit_groups, &mut ended.groups);
            sample.exits_lost = Some(exits.lost());
        }
        sample.events.clear();
        if let Some(kernel_log) = kernel_log {
            kernel_log.drain(Clocks { boottime_ns: now_ns, monotonic_ns }, &mut sample.events);
        }
        let event = |kind, text: String| Event { at_ns: now_ns, kind, text: text.into() };
        sample.events.extend(notes.drain(..).map(|note| event(EventKind::Note, note)));
        sample.events.extend(details.take_stacks().map(|text| event(EventKind::Stacks, text)));
        Ok(())
    }
}

/// The current time between samples, and their effort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    /// Time between samples, which fall on whole multiples of it.
    pub(super) length: Duration,
    /// More frequent than configured, because memory is scarce.
    pub(super) fast: bool,
    /// The allowed cost of the current sample.
    pub(super) effort: Effort,
}

#[cfg(test)]
mod tests {
    use std::{
        process::{self, Command},
        time::Instant,
    };

    use record::{Encoder, Identity};

    use super::*;
    use crate::ring::Ring;

    fn identities(sample: &Sample) -> Vec<Identity> {
        sample.processes.iter().map(|process| process.identity).collect()
    }

    const SECOND: Interval = Interval { length: Duration::from_secs(1), fast: false, effort: Effort::Full };

    #[test]
    fn an_exit_has_the_identity_of_the_sampled_process() {
        let mut sampler = Sampler::open(&Options::new("/nonexistent"), BootId::default(), u64::MAX).unwrap();
        if sampler.exits.is_none() {
            return eprintln!("skipped: process exits are not reported here");
        }
        let mut take = || sampler.take(Moment::now().unwrap().boottime, SECOND, 0).unwrap().clone();
        let find = |sample: Sample, pid| sample.processes.into_iter().find(|found| found.identity.pid == pid);
        while find(take(), process::id()).is_none_or(|own| own.cgroup.is_none()) {}
        let mut child = Command::new("sleep").arg("30").spawn().unwrap();
        // From its first sample on, a process has its parent's control group.
        assert!(find(take(), child.id()).is_some_and(|first| first.cgroup.is_some()));
        let known = loop {
            if let Some(known) =
                find(take(), child.id()).filter(|known| known.command.as_deref() == Some("sleep 30"))
            {
                break known;
            }
        };
        // As usual, the next sample comes some time after the exit.
        child.kill().unwrap();
        child.wait().unwrap();
        let ended_ns = nanoseconds(Moment::now().unwrap().boottime);
        std::thread::sleep(Duration::from_millis(300));
        let sample = take();
        let exit = sample.exits.iter().find(|exit| exit.identity.pid == child.id()).expect("it was reported");
        assert_eq!((exit.identity, exit.status), (known.identity, 9));
        assert!(exit.at_ns <= ended_ns && ended_ns - exit.at_ns < 50_000_000, "{} ns", ended_ns - exit.at_ns);
    }

    #[test]
    fn a_sample_allocates_nothing_while_no_process_comes_or_goes() {
        for kind in [Kind::Proc, Kind::Bpf] {
            let options = Options { collector: Some(kind), ..Options::new("/nonexistent") };
            let mut sampler = match Sampler::open(&options, BootId::default(), u64::MAX) {
                Ok(sampler) => sampler,
                Err(error) => {
                    eprintln!("skipped for {}: {error}", kind.name());
                    continue;
                }
            };
            let mut encoder = Encoder::new(options.policy.block);
            let (ring, mut record, mut taken) =
                (Ring::new(1 << 20, 8), Vec::with_capacity(1 << 20), Vec::with_capacity(1 << 20));
            let interval = Interval { length: options.interval, fast: false, effort: Effort::Full };
            let begun = Instant::now();
            loop {
                let before = identities(&sampler.sample);
                let due = Moment::now().unwrap().boottime;
                let allocated = allocation_counter::measure(|| {
                    record.clear();
                    encoder.encode(sampler.take(due, interval, 0).unwrap(), &mut record);
                    assert!(ring.push(&record) && ring.pop(&mut taken));
                });
                // Other processes start and end meanwhile; command lines of new ones come later.
                let sample = &sampler.sample;
                let steady =
                    before == identities(sample) && sample.exits.is_empty() && sample.events.is_empty();
                if steady && allocated.count_total == 0 {
                    break;
                }
                assert!(begun.elapsed().as_secs() < 60, "{}: {allocated:?}", kind.name());
            }
        }
    }
}
