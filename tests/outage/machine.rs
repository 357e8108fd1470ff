//! Repeats the outage of 2011 in a virtual machine of the same size: the children of a prefork server grow until memory and
//! swap are full. Also tests what is left of the record after a power cut.
//!
//! Time of the cut: a heartbeat in the guest prints the time every 100 ms, and the last beat received is not later than the
//! cut. The loss is the time from the newest sample to that beat. The guest's kernel may stall while it swaps, and qemu
//! while this machine is busy; nothing can be recorded then. The heartbeat, which is locked in memory too, shows these
//! stalls, and they do not count as loss.

use std::{collections::BTreeMap, thread::sleep, time::Duration};

use record::{BootId, Collector, EventKind, Sample, oom::OomKill};
use tests::{
    binary, repository,
    vm::{Disks, Machine, find},
};

use crate::{
    beats::{Beats, beat},
    chance::Chance,
    stored::{self, INTERVAL_NS, LONGEST_GAP_NS, seconds},
};

/// Number of Apache children, each of which grows as large as PHP was then.
const PREFORK: &str = "MAXIMUM=150 MEBIBYTES=35";
const MEBIBYTE: u64 = 1 << 20;
const BOOT: Duration = Duration::from_secs(90);
const OUTAGE: Duration = Duration::from_secs(400);
/// How long the machine continues after the kernel has killed a process.
const AFTERWARDS_NS: u64 = 3_000_000_000;
/// From then on the recorder samples on time. The loss of an earlier cut is unknown: there may be no sample yet.
const STARTED_NS: u64 = 10_000_000_000;

#[test]
fn an_outage_is_recorded_and_a_power_cut_costs_two_intervals_at_most() {
    let mut lab = Lab::new(256 * MEBIBYTE);
    lab.outage();
    lab.cuts(2, Duration::from_secs(20));
}

#[test]
#[ignore = "takes half an hour: make soak"]
fn an_outage_is_recorded_and_30_power_cuts_cost_two_intervals_at_most() {
    Lab::new(512 * MEBIBYTE).outage();
    Lab::new(128 * MEBIBYTE).cuts(30, Duration::from_secs(60));
}

/// A machine that boots repeatedly from the same disks.
struct Lab {
    disks: Disks,
    chance: Chance,
    /// The record after the previous cut, in order.
    before: Vec<(BootId, u64)>,
}

/// One boot, from its start to the cut.
struct Boot {
    beats: Beats,
    /// The samples of this boot that were found on the disk.
    samples: Vec<Sample>,
}

impl Lab {
    fn new(swap_bytes: u64) -> Self {
        let programs = [
            ("/usr/lib/magpie/agent", binary("agent")),
            ("/usr/lib/magpie/recorder", binary("recorder")),
            ("/usr/sbin/apache2", binary("outage-prefork")),
            ("/usr/sbin/chrt", find("chrt")),
            ("/usr/sbin/heartbeat", binary("outage-heartbeat")),
        ];
        let disks = Disks::new(&repository("tests/outage/guest/init"), &programs, None, swap_bytes);
        Self { disks, chance: Chance::new(), before: Vec::new() }
    }

    fn boot(&self) -> (Machine, BootId) {
        let mut machine = Machine::boot(&self.disks, PREFORK);
        let id = machine.wait_for(BOOT, |line| {
            let (id, kernel) = line.strip_prefix("ready ")?.split_once(' ')?;
            if self.before.is_empty() {
                println!("machine: Linux {kernel}");
            }
            id.parse().ok()
        });
        (machine, id)
    }

    /// Runs the outage until the kernel kills, then cuts the power.
    fn outage(&mut self) {
        let (mut machine, id) = self.boot();
        machine.wait_for(OUTAGE, |line| line.contains("Out of memory: Killed process").then_some(()));
        let mut over = None;
        machine.wait_for(OUTAGE, |line| {
            let now = beat(line)?;
            (now >= *over.get_or_insert(now + AFTERWARDS_NS)).then_some(())
        });
        let boot = self.cut(machine, id);
        boot.print_figures();
        boot.lost_two_intervals_at_most();
        boot.was_recorded_throughout();
        boot.had_all_sources();
        boot.shows_the_outage();
        boot.has_the_kernels_table();
    }

    /// Cuts the power this many times, each time at a random moment after a boot.
    fn cuts(&mut self, times: u32, within: Duration) {
        for _ in 0..times {
            let (mut machine, id) = self.boot();
            let first = machine.wait_for(BOOT, beat);
            let alive = self.chance.within(within);
            machine.wait_for(OUTAGE, |line| (beat(line)? >= first + alive.as_nanos() as u64).then_some(()));
            // The moment itself is random: do not wait for an event, not even for a beat.
            sleep(self.chance.within(Duration::from_millis(100)));
            self.cut(machine, id).lost_two_intervals_at_most();
        }
    }

    /// Cuts the power, and asserts that the record opens and still has all samples of earlier boots.
    fn cut(&mut self, machine: Machine, id: BootId) -> Boot {
        let beats = Beats::heard(&machine.power_cut());
        let kept = self.disks.directory_after_cut("/var/lib/magpie");
        let samples = stored::open(&kept.path().join("magpie/history"));
        let now: Vec<(BootId, u64)> =
            samples.iter().map(|sample| (sample.boot_id, sample.boottime_ns)).collect();
        assert!(
            now.starts_with(&self.before),
            "what was on the disk after the cut before is not there any more"
        );
        self.before = now;
        Boot { beats, samples: samples.into_iter().filter(|sample| sample.boot_id == id).collect() }
    }
}

impl Boot {
    /// Time that the record misses, from its newest sample to the last beat, and how much of it the machine was running.
    fn lost_two_intervals_at_most(&self) {
        let (first, last) = self.beats.ends();
        let newest = self.samples.last().map_or(first, |sample| sample.boottime_ns);
        let lost = self.beats.awake_ns(newest, last);
        println!(
            "power cut: {:.1} s after the first beat, {} samples on the disk, the last {:.2} s not ({:.2} s without standstills)",
            seconds(last - first),
            self.samples.len(),
            seconds(last.saturating_sub(newest)),
            seconds(lost),
        );
        assert!(last - first < STARTED_NS || lost <= 2 * INTERVAL_NS, "more than two intervals are lost");
    }

    fn print_figures(&self) {
        let awake = stored::longest_gap(&self.samples, |from, until| self.beats.awake_ns(from, until));
        let latest = self.samples.iter().map(|sample| sample.late_ns).max().unwrap_or(0);
        println!(
            "outage: {} samples, longest gap {:.2} s ({:.2} s without standstills), longest pause of the heartbeat {:.2} s, latest sample {:.2} s late",
            self.samples.len(),
            seconds(stored::longest_gap(&self.samples, |from, until| until - from)),
            seconds(awake),
            seconds(self.beats.longest_pause_ns()),
            seconds(latest),
        );
    }

    /// Asserts that one recorder ran all the time and caused no gaps.
    fn was_recorded_throughout(&self) {
        let recorders: Vec<_> = self.samples.iter().map(|sample| pids(sample, "recorder")).collect();
        assert!(recorders.iter().all(|pids| *pids == recorders[0]), "the recorder did not live through it");
        assert_eq!(recorders[0].len(), 1);
        let gap = stored::longest_gap(&self.samples, |from, until| self.beats.awake_ns(from, until));
        assert!(gap <= LONGEST_GAP_NS, "nothing was recorded for {:.2} s", seconds(gap));
    }

    /// Root on its own kernel has all sources of data.
    fn had_all_sources(&self) {
        let newest = self.samples.last().expect("there are samples");
        let missing: Vec<&str> = newest.sources.missing().collect();
        println!("outage: collector {}, missing sources {missing:?}", newest.collector.name());
        let events = self.samples.iter().flat_map(|sample| &sample.events);
        let notes: Vec<_> =
            events.filter(|event| event.kind == EventKind::Note).map(|event| &event.text).collect();
        assert_eq!((newest.collector, missing.len()), (Collector::Bpf, 0), "{notes:#?}");
        assert!(!notes.iter().any(|note| note.contains("not real-time")), "{notes:#?}");
    }

    /// Asserts the kernel's messages about the first kill, with the table of tasks, and the exit of the killed process.
    fn has_the_kernels_table(&self) {
        let events = self.samples.iter().flat_map(|sample| &sample.events);
        let kernel = events.filter(|event| event.kind == EventKind::Kernel);
        let kill = kernel
            .filter_map(|event| OomKill::parse(&event.text))
            .next()
            .expect("the kernel's text is on record");
        let (victim, holders) = (&kill.victims[0], kill.by_name());
        println!(
            "outage: killed {} {}, asked for by {:?}; table of {} tasks, {} hold most",
            victim.comm,
            victim.pid,
            kill.trigger.as_ref().map(|trigger| &trigger.comm),
            kill.table.len(),
            holders[0].comm,
        );
        assert_eq!(holders[0].comm, "apache2");
        assert!(kill.trigger.is_some());
        assert!(kill.table.iter().any(|row| row.pid == victim.pid), "the table is without the victim");
        let mut exits = self.samples.iter().flat_map(|sample| &sample.exits);
        match exits.find(|exit| exit.identity.pid == victim.pid) {
            Some(exit) => assert_eq!(exit.status & 0x7f, 9, "a kill is signal 9"),
            // The killed process still needs CPU time and memory to exit.
            None => {
                let newest = self.samples.last().expect("there are samples");
                let still = newest.processes.iter().any(|process| process.identity.pid == victim.pid);
                assert!(still, "the victim's end is not on record");
            }
        }
    }

    /// The record must show what happened: full memory, swapping in both directions, a kill, and the biggest memory users.
    fn shows_the_outage(&self) {
        let kill = self.samples.iter().position(|sample| sample.host.oom_kills > Some(0));
        let kill = kill.expect("the kill is in the record");
        let full = &self.samples[kill - 1];
        let swap_free = full.host.swap_free_kib.expect("swap is there");
        let swap_total = full.host.swap_total_kib.expect("swap is there");
        let thrash = self.samples[..kill].windows(2).map(|pair| Thrash::between(&pair[0], &pair[1]));
        let thrashing = thrash.filter(Thrash::is_thrash).count();
        let (holder, footprint_kib) = biggest_holder(full);
        println!(
            "outage: {swap_free} of {swap_total} KiB of swap free before the kill, {thrashing} of {kill} samples show thrash, \
             {holder} hold {} MiB in {} processes",
            footprint_kib >> 10,
            pids(full, &holder).len()
        );
        assert!(swap_free * 10 < swap_total, "swap was not exhausted");
        assert!(thrashing >= 1, "swap thrash cannot be seen");
        assert_eq!(holder, "apache2");
    }
}

/// Memory activity between two samples, per second.
#[derive(Debug)]
struct Thrash {
    in_kib: f64,
    out_kib: f64,
    stalled: f64,
}

impl Thrash {
    fn between(earlier: &Sample, later: &Sample) -> Self {
        let elapsed = seconds(later.boottime_ns - earlier.boottime_ns);
        let rate = |counter: fn(&Sample) -> Option<u64>| {
            let counted = |sample| counter(sample).expect("this kernel counts it");
            (counted(later) - counted(earlier)) as f64 / elapsed
        };
        Self {
            in_kib: rate(|sample| sample.host.swap_in_kib),
            out_kib: rate(|sample| sample.host.swap_out_kib),
            stalled: rate(|sample| sample.host.pressure_memory_full_us) / 1e6,
        }
    }

    /// Pages move in both directions, and all tasks that want to run wait for them.
    fn is_thrash(&self) -> bool {
        self.in_kib > 80.0 && self.out_kib > 80.0 && self.stalled > 0.1
    }
}

fn pids(sample: &Sample, comm: &str) -> Vec<u32> {
    let named = sample.processes.iter().filter(|process| &*process.comm == comm);
    named.map(|process| process.identity.pid).collect()
}

/// Name of the processes with the most memory that the kernel cannot drop, and its size in KiB.
fn biggest_holder(sample: &Sample) -> (String, u64) {
    let mut held: BTreeMap<&str, u64> = BTreeMap::new();
    for process in &sample.processes {
        let footprint = process.anon_kib.unwrap_or(process.resident_kib) + process.swap_kib.unwrap_or(0);
        *held.entry(&process.comm).or_default() += footprint;
    }
    let (comm, kib) = held.into_iter().max_by_key(|(_, kib)| *kib).expect("there are processes");
    (comm.to_owned(), kib)
}
