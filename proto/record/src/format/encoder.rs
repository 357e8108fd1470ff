//! Encodes samples into records, each against the previous one. Allocates nothing once its buffers are large enough,
//! as long as no process starts or ends.

use super::{
    column::{self, NUMBERS},
    entry::{
        self, ACTIVE, CHANGES, COLUMNS, Contents, DEVICES, EVENTS, EXITS, GROUPS, HEAD, HOST, MEMBERS,
        Prefix, STREAMS, TEXTS,
    },
    groups::write_groups,
    varint::{write, write_delta, write_optional, write_text},
};
use crate::sample::{
    Disk, Event, EventKind, Exit, ExitGroup, Filesystem, HostCounters, Identity, Process, Sample,
};

/// The kernel's unit of process start times, ns (proc_pid_stat(5), field 22).
pub(super) const TICK_NS: u64 = 10_000_000;

/// Limits after which a record must be a key, which begins a new block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of records in a block: the most that one damaged byte can destroy.
    pub records: u32,
    /// Maximum size of the records in a block, in bytes: limits the writer's memory. A block holds at least twice its
    /// key.
    pub bytes: usize,
}

/// Encodes samples into records.
#[derive(Debug)]
pub struct Encoder {
    limits: Limits,
    /// The sample that the next record is encoded against; `None` before a key.
    previous: Option<Sample>,
    spare: Sample,
    /// For each process of the new sample, its index in the previous one.
    places: Vec<Option<usize>>,
    streams: [Vec<u8>; STREAMS],
    bare: Process,
    /// Number of kills on this host so far, kept across keys.
    kills: Option<u64>,
    records: u32,
    bytes: usize,
    key_bytes: usize,
}

impl Encoder {
    /// An encoder that begins with a key.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            previous: None,
            spare: Sample::default(),
            places: Vec::new(),
            streams: std::array::from_fn(|_| Vec::new()),
            bare: Process::bare(Identity::default()),
            kills: None,
            records: 0,
            bytes: 0,
            key_bytes: 0,
        }
    }

    /// Makes the next record a key, because readers may not have the earlier records.
    pub fn restart(&mut self) {
        if let Some(previous) = self.previous.take() {
            self.spare = previous;
        }
    }

    /// Appends one record to `out`. The sample's processes must be sorted by identity, without duplicates.
    pub fn encode(&mut self, sample: &Sample, out: &mut Vec<u8>) {
        debug_assert!(sample.processes.is_sorted_by(|a, b| a.identity < b.identity));
        if self.records >= self.limits.records || self.bytes >= self.limits.bytes.max(2 * self.key_bytes) {
            self.restart();
        }
        let key = self.previous.is_none();
        // A key is encoded against an empty sample, which reuses the memory of an old one.
        let mut previous = self.previous.take().unwrap_or_else(|| cleared(std::mem::take(&mut self.spare)));
        self.streams.iter_mut().for_each(Vec::clear);
        let contents = contents(std::mem::replace(&mut self.kills, sample.own_kills()), sample);
        write_head(&previous, sample, &mut self.streams[HEAD]);
        write_host(&previous.host, &sample.host, &mut self.streams[HOST]);
        write_devices(&previous, sample, &mut self.streams[DEVICES]);
        write_groups(&previous.groups, &sample.groups, &mut self.streams[GROUPS]);
        write_exits(sample, &mut self.streams[EXITS]);
        write_events(sample, &mut self.streams[EVENTS]);
        self.write_processes(&mut previous.processes, &sample.processes);
        remember(&mut previous, sample);
        self.previous = Some(previous);

        let before = out.len();
        entry::write(&Prefix::of(sample, key, contents), &self.streams, out);
        let length = out.len() - before;
        if key {
            // The key starts a new block; if the key is large, so is the block's size limit.
            (self.records, self.bytes, self.key_bytes) = (0, 0, length);
        }
        self.records += 1;
        self.bytes += length;
    }

    /// Writes new, gone and changed processes; afterwards, `before` equals `now`.
    fn write_processes(&mut self, before: &mut Vec<Process>, now: &[Process]) {
        let same = before.len() == now.len() && before.iter().zip(now).all(|(a, b)| a.identity == b.identity);
        if same {
            // No process is gone, none is new.
            self.streams[MEMBERS].extend([0, 0]);
        } else {
            write_members(before, now, &mut self.places, &mut self.streams[MEMBERS]);
        }
        let mut next = 0;
        for (index, process) in now.iter().enumerate() {
            let place = if same { Some(index) } else { self.places[index] };
            let base = place.map_or(&self.bare, |place| &before[place]);
            let changes = column::differing(base, process);
            if changes == 0 {
                continue;
            }
            // Steps are at least 1, so that 0 can end the list.
            write(&mut self.streams[ACTIVE], (index - next + 1) as u64);
            next = index + 1;
            write(&mut self.streams[CHANGES], changes.into());
            write_changes(base, process, changes, &mut self.streams);
            if same {
                // Copy only changed processes: most do not change between two samples.
                before[index].clone_from(process);
            }
        }
        self.streams[ACTIVE].push(0);
        if !same {
            before.clear();
            before.extend_from_slice(now);
        }
    }
}

/// An empty sample that keeps the memory of its lists.
fn cleared(sample: Sample) -> Sample {
    let Sample { mut disks, mut filesystems, mut groups, mut processes, .. } = sample;
    disks.clear();
    filesystems.clear();
    groups.clear();
    processes.clear();
    Sample { disks, filesystems, groups, processes, ..Sample::default() }
}

/// Copies what the next sample is encoded against, except the processes.
fn remember(previous: &mut Sample, sample: &Sample) {
    let Sample { disks, filesystems, groups, processes, .. } = std::mem::take(previous);
    *previous = Sample {
        disks,
        filesystems,
        groups,
        processes,
        exits: Vec::new(),
        exit_groups: Vec::new(),
        events: Vec::new(),
        ..*sample
    };
    if previous.disks != sample.disks {
        previous.disks.clone_from(&sample.disks);
    }
    if previous.filesystems != sample.filesystems {
        previous.filesystems.clone_from(&sample.filesystems);
    }
    if previous.groups != sample.groups {
        previous.groups.clone_from(&sample.groups);
    }
}

fn contents(kills_before: Option<u64>, sample: &Sample) -> Contents {
    let mut contents = Contents::default();
    for event in &sample.events {
        contents = contents.with(match event.kind {
            EventKind::Kernel => Contents::KERNEL,
            EventKind::Note | EventKind::Stacks => Contents::NOTES,
        });
    }
    if !sample.exits.is_empty() || !sample.exit_groups.is_empty() {
        contents = contents.with(Contents::EXITS);
    }
    if kills_before.zip(sample.own_kills()).is_some_and(|(before, now)| now > before) {
        contents = contents.with(Contents::OOM_KILLS);
    }
    contents
}

/// The sample's own numbers, in the order of the format.
pub(super) fn head(sample: &Sample) -> [u64; 13] {
    [
        sample.wall_ms as u64,
        sample.boottime_ns,
        sample.interval_ms.into(),
        sample.late_ns,
        sample.sweep_ns,
        sample.own_start_ns,
        sample.own_cpu_us,
        sample.dropped,
        sample.listed,
        sample.rss_error_kib,
        sample.collector as u64,
        sample.sources.0.into(),
        sample.fast.into(),
    ]
}

fn write_head(before: &Sample, now: &Sample, out: &mut Vec<u8>) {
    for (before, now) in head(before).into_iter().zip(head(now)) {
        write_delta(out, before, now);
    }
}

fn write_host(before: &HostCounters, now: &HostCounters, out: &mut Vec<u8>) {
    let pairs = before.values().into_iter().zip(now.values());
    let mut mask = [0u8; HostCounters::COUNT.div_ceil(8)];
    for (index, (before, now)) in pairs.clone().enumerate() {
        mask[index / 8] |= u8::from(before != now) << (index % 8);
    }
    out.extend(mask);
    for (before, now) in pairs.filter(|(before, now)| before != now) {
        write_optional(out, before, now);
    }
}

fn write_devices(before: &Sample, now: &Sample, out: &mut Vec<u8>) {
    write_list(&before.disks, &now.disks, out);
    write_list(&before.filesystems, &now.filesystems, out);
}

/// An item with a name and some numbers.
pub(super) trait Device {
    /// Name of the item.
    fn name(&self) -> &str;
    /// Numbers of the item.
    fn numbers(&self) -> [u64; 6];
}

impl Device for Disk {
    fn name(&self) -> &str {
        &self.name
    }

    fn numbers(&self) -> [u64; 6] {
        let Self { reads, read_bytes, writes, written_bytes, busy_ms, queued_ms, .. } = *self;
        [reads, read_bytes, writes, written_bytes, busy_ms, queued_ms]
    }
}

impl Device for Filesystem {
    fn name(&self) -> &str {
        &self.mount
    }

    fn numbers(&self) -> [u64; 6] {
        let Self { total_bytes, free_bytes, files, free_files, in_memory, .. } = *self;
        [total_bytes, free_bytes, files, free_files, in_memory.into(), 0]
    }
}

/// Writes 0 if the names are unchanged, else 1 and the new names; then a mask and differences for each item.
fn write_list<T: Device>(before: &[T], now: &[T], out: &mut Vec<u8>) {
    let same = before.len() == now.len() && before.iter().zip(now).all(|(a, b)| a.name() == b.name());
    out.push(u8::from(!same));
    if !same {
        write(out, now.len() as u64);
        now.iter().for_each(|item| write_text(out, item.name()));
    }
    for (index, item) in now.iter().enumerate() {
        let base = if same { before[index].numbers() } else { [0; 6] };
        let pairs = base.into_iter().zip(item.numbers());
        let bit = |(index, (before, now)): (usize, (u64, u64))| u8::from(before != now) << index;
        out.push(pairs.clone().enumerate().map(bit).sum());
        pairs.filter(|(before, now)| before != now).for_each(|(before, now)| write_delta(out, before, now));
    }
}

fn write_exits(sample: &Sample, out: &mut Vec<u8>) {
    write_optional(out, None, sample.exits_lost);
    write(out, sample.exits.len() as u64);
    let mut base = Identity::default();
    for exit in &sample.exits {
        let Exit { identity, comm, .. } = exit;
        write_delta(out, base.pid.into(), identity.pid.into());
        write_started(out, base.started_ns, identity.started_ns);
        write_text(out, comm);
        write_delta(out, sample.boottime_ns, exit.at_ns);
        exit_numbers(exit).into_iter().for_each(|number| write(out, number));
        base = *identity;
    }
    write(out, sample.exit_groups.len() as u64);
    for group in &sample.exit_groups {
        let ExitGroup { parent, comm, count, failed, cpu_us, peak_kib } = group;
        write_text(out, comm);
        [u64::from(*parent), *count, *failed, *cpu_us, *peak_kib]
            .into_iter()
            .for_each(|number| write(out, number));
    }
}

/// The numbers of an exit that are written without differences.
fn exit_numbers(exit: &Exit) -> [u64; 10] {
    [
        exit.parent.into(),
        exit.uid.into(),
        exit.lived_us,
        exit.user_us,
        exit.system_us,
        exit.peak_kib,
        exit.status.into(),
        exit.major_faults,
        exit.read_bytes,
        exit.written_bytes,
    ]
}

/// Writes a start time: the difference to the previous one in ticks, and the rest beyond whole ticks.
fn write_started(out: &mut Vec<u8>, before_ns: u64, started_ns: u64) {
    write_delta(out, before_ns / TICK_NS, started_ns / TICK_NS);
    write(out, started_ns % TICK_NS);
}

fn write_events(sample: &Sample, out: &mut Vec<u8>) {
    write(out, sample.events.len() as u64);
    for Event { at_ns, kind, text } in &sample.events {
        write_delta(out, sample.boottime_ns, *at_ns);
        out.push(*kind as u8);
        write_text(out, text);
    }
}

/// Writes processes that are gone and new ones, and stores the old indexes of the others in `places`.
fn write_members(before: &[Process], now: &[Process], places: &mut Vec<Option<usize>>, out: &mut Vec<u8>) {
    places.clear();
    let mut old = 0;
    let mut next_index = 0;
    let mut gone = |out: &mut Vec<u8>, index: usize| {
        write(out, (index - next_index + 1) as u64);
        next_index = index + 1;
    };
    for process in now {
        while before.get(old).is_some_and(|candidate| candidate.identity < process.identity) {
            gone(out, old);
            old += 1;
        }
        let stayed = before.get(old).is_some_and(|candidate| candidate.identity == process.identity);
        places.push(stayed.then_some(old));
        old += usize::from(stayed);
    }
    for index in old..before.len() {
        gone(out, index);
    }
    out.push(0);

    let new =
        || now.iter().zip(places.iter()).filter(|(_, place)| place.is_none()).map(|(process, _)| process);
    write(out, new().count() as u64);
    let mut base = Identity::default();
    for Process { identity, .. } in new() {
        write(out, (identity.pid - base.pid).into());
        write_started(out, base.started_ns, identity.started_ns);
        base = *identity;
    }
}

/// Writes the changed columns of one process.
fn write_changes(before: &Process, now: &Process, changes: u32, streams: &mut [Vec<u8>; STREAMS]) {
    for column in column::bits(changes) {
        match column.checked_sub(NUMBERS) {
            None => {
                let (old, new) = (column::number(before, column), column::number(now, column));
                write_optional(&mut streams[COLUMNS + column], old, new);
            }
            Some(text) => match column::text(now, text) {
                Some(text) => {
                    streams[TEXTS].push(1);
                    write_text(&mut streams[TEXTS], text);
                }
                None => streams[TEXTS].push(0),
            },
        }
    }
}
