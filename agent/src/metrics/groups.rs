//! Groups processes by name: the largest and busiest groups by name, and all others together as `(other)`.

use std::collections::{BTreeMap, HashMap, HashSet};

use record::{Identity, Process};

use super::{Minute, text::Text};

/// Maximum number of named groups: half chosen by memory, half by CPU time.
pub(super) const MOST: usize = 20;

/// Label of all other groups together.
const OTHER: &str = "(other)";

/// Sums over the processes with one name.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    processes: u64,
    footprint_kib: u64,
    resident_kib: u64,
    swap_kib: u64,
    cpu_us: u64,
}

impl Group {
    fn add(&mut self, other: &Self) {
        self.processes += other.processes;
        self.footprint_kib += other.footprint_kib;
        self.resident_kib += other.resident_kib;
        self.swap_kib += other.swap_kib;
        self.cpu_us += other.cpu_us;
    }
}

/// Writes the groups: processes of the newest sample, CPU time of the last minute.
pub(super) fn write(minute: &Minute, text: &mut Text) {
    let groups = few(all(minute));
    let seconds = minute.last.boottime_ns.saturating_sub(minute.first.boottime_ns) as f64 / 1e9;
    let bytes = |kib: u64| kib as f64 * 1024.0;
    let mut each = |name: &str, help: &str, value: &dyn Fn(&Group) -> f64| {
        let mut family = text.gauge(name, help);
        for (group, of_group) in &groups {
            family.value(&[("group", group)], value(of_group));
        }
    };
    each("magpie_group_processes", "Processes with this name", &|group| group.processes as f64);
    each("magpie_group_footprint_bytes", "Anonymous memory, resident or swapped", &|group| {
        bytes(group.footprint_kib)
    });
    each("magpie_group_resident_bytes", "Resident memory; shared memory counts for each process", &|group| {
        bytes(group.resident_kib)
    });
    each("magpie_group_swap_bytes", "Swapped memory", &|group| bytes(group.swap_kib));
    if seconds > 0.0 {
        each("magpie_group_cpus", "CPUs in use, averaged over the last minute or less", &|group| {
            group.cpu_us as f64 / 1e6 / seconds
        });
    }
}

fn all(minute: &Minute) -> BTreeMap<&str, Group> {
    let before: HashMap<Identity, u64> =
        minute.first.processes.iter().map(|process| (process.identity, process.cpu_us())).collect();
    let spent = |identity: Identity, cpu_us: u64| match before.get(&identity) {
        Some(before) => cpu_us.saturating_sub(*before),
        None if identity.started_ns >= minute.first.boottime_ns => cpu_us,
        // The process existed at the start of the minute but was not sampled: its CPU time before is unknown.
        None => 0,
    };
    let mut groups = BTreeMap::<&str, Group>::new();
    for process in &minute.last.processes {
        let Process { identity, comm, resident_kib, swap_kib, .. } = process;
        groups.entry(comm).or_default().add(&Group {
            processes: 1,
            footprint_kib: process.footprint_kib(),
            resident_kib: *resident_kib,
            swap_kib: swap_kib.unwrap_or(0),
            cpu_us: spent(*identity, process.cpu_us()),
        });
    }
    for exit in &minute.exits {
        let cpu_us = spent(exit.identity, exit.user_us + exit.system_us);
        groups.entry(&exit.comm).or_default().add(&Group { cpu_us, ..Group::default() });
    }
    groups
}

/// Keeps the largest and busiest groups and sums the others.
fn few(groups: BTreeMap<&str, Group>) -> Vec<(String, Group)> {
    let mut chosen = HashSet::new();
    for by in [|group: &Group| group.footprint_kib, |group: &Group| group.cpu_us] {
        let mut ordered: Vec<_> = groups.iter().filter(|(name, _)| !chosen.contains(**name)).collect();
        ordered.sort_by_key(|(_, group)| std::cmp::Reverse(by(group)));
        chosen.extend(ordered.iter().take(MOST / 2).map(|(name, _)| **name));
    }
    let mut others = Group::default();
    let mut few = Vec::with_capacity(MOST + 1);
    for (name, group) in &groups {
        if chosen.contains(name) {
            few.push(((*name).to_owned(), *group));
        } else {
            others.add(group);
        }
    }
    if few.len() < groups.len() {
        few.push((OTHER.to_owned(), others));
    }
    few
}
