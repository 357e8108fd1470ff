//! Decodes records into samples. Checks everything before use.

use std::sync::Arc;

use super::{
    column::{self, COUNT, Columns, NUMBERS},
    damage::Damage,
    encoder::{TICK_NS, head},
    entry::{
        self, ACTIVE, CHANGES, COLUMNS, DEVICES, EVENTS, EXITS, GROUPS, HEAD, HOST, MEMBERS, Prefix, STREAMS,
        TEXTS,
    },
    groups::read_groups,
    varint::Cursor,
};
use crate::sample::{
    BootId, Collector, Disk, Event, EventKind, Exit, ExitGroup, Filesystem, HostCounters, Identity, Process,
    Sample, Sources,
};

pub(super) const UNFIT: Damage = Damage::Inconsistent("a value does not fit its field");

/// The unread parts of the streams of a record, or of all records of a block.
pub(super) type Cursors<'a> = [Cursor<'a>; STREAMS];

/// Decodes complete records into samples, one after the other.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    version: u16,
    whole: bool,
}

impl Decoder {
    /// A decoder for records of one boot, from the first on, in this version of the format.
    pub fn new(boot_id: BootId, version: u16) -> Self {
        Self { state: State::new(boot_id), version, whole: false }
    }

    /// The latest sample, if the last record was valid.
    pub fn into_newest(self) -> Option<Sample> {
        self.whole.then_some(self.state.sample)
    }

    /// Decodes one record. After damage, only a key can be decoded.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<&Sample, Damage> {
        let prefix = Prefix::parse(bytes)?;
        if prefix.key {
            self.state = State::new(self.state.sample.boot_id);
        } else if !self.whole {
            return Err(Damage::Inconsistent("a record depends on a missing one"));
        }
        // Until the record is decoded completely: damage leaves a half-updated state.
        self.whole = false;
        let mut cursors = entry::streams(bytes, self.version)?.map(Cursor);
        self.state.advance(&mut cursors, Columns::ALL)?;
        finish(&cursors, Columns::ALL)?;
        // The prefix repeats the sample's times for readers that do not decode it: both must agree.
        if Prefix::of(&self.state.sample, prefix.key, prefix.contents) != prefix {
            return Err(Damage::Inconsistent("a record's times"));
        }
        self.whole = true;
        Ok(&self.state.sample)
    }
}

/// The sample that the next one is encoded against.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) sample: Sample,
    /// Indexes of processes in a record, kept to reuse the memory.
    indexes: Vec<usize>,
}

impl State {
    /// The state before a key.
    pub(super) fn new(boot_id: BootId) -> Self {
        Self { sample: Sample { boot_id, ..Sample::default() }, indexes: Vec::new() }
    }

    /// Decodes the next sample. Of the columns of numbers, updates only `columns`.
    pub(super) fn advance(&mut self, cursors: &mut Cursors, columns: Columns) -> Result<(), Damage> {
        let sample = &mut self.sample;
        read_head(sample, &mut cursors[HEAD])?;
        read_host(&mut sample.host, &mut cursors[HOST])?;
        read_disks(&mut sample.disks, &mut cursors[DEVICES])?;
        read_filesystems(&mut sample.filesystems, &mut cursors[DEVICES])?;
        // Version 2 of the format has no such stream.
        if columns.has_groups() && !cursors[GROUPS].0.is_empty() {
            read_groups(&mut sample.groups, &mut cursors[GROUPS])?;
        }
        read_exits(sample, &mut cursors[EXITS])?;
        read_events(sample, &mut cursors[EVENTS])?;
        let identity = |process: &Process| process.identity;
        let members = &mut cursors[MEMBERS];
        read_members(&mut sample.processes, &mut self.indexes, members, identity, Process::bare)?;
        read_processes(&mut sample.processes, cursors, columns)
    }
}

/// Checks that no data follows the last sample.
pub(super) fn finish(cursors: &Cursors, columns: Columns) -> Result<(), Damage> {
    all_read(cursors, |stream| entry::is_wanted(stream, columns))
}

/// Checks that nothing remains of these streams.
pub(super) fn all_read(cursors: &Cursors, is_read: impl Fn(usize) -> bool) -> Result<(), Damage> {
    let mut read = cursors.iter().enumerate().filter(|(stream, _)| is_read(*stream));
    let done = read.all(|(_, cursor)| cursor.0.is_empty());
    done.then_some(()).ok_or(Damage::Inconsistent("there is unexpected data at the end"))
}

fn read_head(sample: &mut Sample, cursor: &mut Cursor) -> Result<(), Damage> {
    let mut numbers = head(sample);
    for number in &mut numbers {
        *number = cursor.delta(*number)?;
    }
    let [
        wall_ms,
        boottime,
        interval,
        late,
        sweep,
        own_start,
        own_cpu,
        dropped,
        listed,
        rss_error,
        collector,
        sources,
        fast,
    ] = numbers;
    sample.wall_ms = wall_ms as i64;
    sample.boottime_ns = boottime;
    sample.interval_ms = u32::try_from(interval).map_err(|_| UNFIT)?;
    sample.late_ns = late;
    sample.sweep_ns = sweep;
    sample.own_start_ns = own_start;
    sample.own_cpu_us = own_cpu;
    sample.dropped = dropped;
    sample.listed = listed;
    sample.rss_error_kib = rss_error;
    sample.collector = match collector {
        0 => Collector::Proc,
        1 => Collector::Bpf,
        _ => return Err(UNFIT),
    };
    sample.sources = Sources(u32::try_from(sources).map_err(|_| UNFIT)?);
    sample.fast = match fast {
        0 | 1 => fast == 1,
        _ => return Err(UNFIT),
    };
    Ok(())
}

fn read_host(host: &mut HostCounters, cursor: &mut Cursor) -> Result<(), Damage> {
    let mask: [u8; HostCounters::COUNT.div_ceil(8)] = cursor.array()?;
    for (eight, mask) in host.values_mut().chunks_mut(8).zip(mask) {
        for bit in column::bits(mask.into()) {
            let value = eight.get_mut(bit).ok_or(UNFIT)?;
            **value = cursor.optional(**value)?;
        }
    }
    Ok(())
}

fn read_disks(disks: &mut Vec<Disk>, cursor: &mut Cursor) -> Result<(), Damage> {
    if let Some(names) = read_names(cursor)? {
        *disks = names.into_iter().map(|name| Disk { name, ..Disk::default() }).collect();
    }
    for disk in disks {
        let Disk { reads, read_bytes, writes, written_bytes, busy_ms, queued_ms, .. } = disk;
        read_numbers([reads, read_bytes, writes, written_bytes, busy_ms, queued_ms], cursor)?;
    }
    Ok(())
}

fn read_filesystems(filesystems: &mut Vec<Filesystem>, cursor: &mut Cursor) -> Result<(), Damage> {
    if let Some(names) = read_names(cursor)? {
        *filesystems = names.into_iter().map(|mount| Filesystem { mount, ..Filesystem::default() }).collect();
    }
    for filesystem in filesystems {
        let mut in_memory = filesystem.in_memory.into();
        let Filesystem { total_bytes, free_bytes, files, free_files, .. } = filesystem;
        read_numbers([total_bytes, free_bytes, files, free_files, &mut in_memory], cursor)?;
        filesystem.in_memory = match in_memory {
            0 | 1 => in_memory == 1,
            _ => return Err(UNFIT),
        };
    }
    Ok(())
}

/// The new names, if they differ from those of the previous sample.
pub(super) fn read_names(cursor: &mut Cursor) -> Result<Option<Vec<Arc<str>>>, Damage> {
    match cursor.array()? {
        [0] => Ok(None),
        [1] => {
            let count = bounded(cursor, 2)?;
            (0..count).map(|_| cursor.text().map(Arc::from)).collect::<Result<_, _>>().map(Some)
        }
        _ => Err(UNFIT),
    }
}

fn read_numbers<const N: usize>(numbers: [&mut u64; N], cursor: &mut Cursor) -> Result<(), Damage> {
    let [mask] = cursor.array()?;
    if usize::from(mask) >= 1 << N {
        return Err(UNFIT);
    }
    for (_, number) in numbers.into_iter().enumerate().filter(|(index, _)| mask & (1 << index) != 0) {
        *number = cursor.delta(*number)?;
    }
    Ok(())
}

/// A count of items that take at least `least` bytes each, so that it cannot request more memory than the input
/// justifies.
pub(super) fn bounded(cursor: &mut Cursor, least: usize) -> Result<usize, Damage> {
    let count = cursor.index()?;
    if count > cursor.0.len() / least { Err(Damage::Cut) } else { Ok(count) }
}

fn read_exits(sample: &mut Sample, cursor: &mut Cursor) -> Result<(), Damage> {
    sample.exits_lost = cursor.optional(None)?;
    sample.exits.clear();
    let mut base = Identity::default();
    for _ in 0..bounded(cursor, 15)? {
        let pid = u32::try_from(cursor.delta(base.pid.into())?).map_err(|_| UNFIT)?;
        base = Identity { pid, started_ns: read_started(cursor, base.started_ns)? };
        sample.exits.push(read_exit(base, sample.boottime_ns, cursor)?);
    }
    sample.exit_groups.clear();
    for _ in 0..bounded(cursor, 6)? {
        sample.exit_groups.push(ExitGroup {
            comm: cursor.text()?.into(),
            parent: u32::try_from(cursor.number()?).map_err(|_| UNFIT)?,
            count: cursor.number()?,
            failed: cursor.number()?,
            cpu_us: cursor.number()?,
            peak_kib: cursor.number()?,
        });
    }
    Ok(())
}

fn read_exit(identity: Identity, now_ns: u64, cursor: &mut Cursor) -> Result<Exit, Damage> {
    let small = |cursor: &mut Cursor| u32::try_from(cursor.number()?).map_err(|_| UNFIT);
    Ok(Exit {
        identity,
        comm: cursor.text()?.into(),
        at_ns: cursor.delta(now_ns)?,
        parent: small(cursor)?,
        uid: small(cursor)?,
        lived_us: cursor.number()?,
        user_us: cursor.number()?,
        system_us: cursor.number()?,
        peak_kib: cursor.number()?,
        status: small(cursor)?,
        major_faults: cursor.number()?,
        read_bytes: cursor.number()?,
        written_bytes: cursor.number()?,
    })
}

fn read_started(cursor: &mut Cursor, before_ns: u64) -> Result<u64, Damage> {
    let ticks = cursor.delta(before_ns / TICK_NS)?;
    let rest = cursor.number()?;
    ticks.checked_mul(TICK_NS).and_then(|ns| ns.checked_add(rest)).ok_or(UNFIT)
}

fn read_events(sample: &mut Sample, cursor: &mut Cursor) -> Result<(), Damage> {
    sample.events.clear();
    for _ in 0..bounded(cursor, 3)? {
        let at_ns = cursor.delta(sample.boottime_ns)?;
        let kind = match cursor.array()? {
            [0] => EventKind::Kernel,
            [1] => EventKind::Note,
            [2] => EventKind::Stacks,
            _ => return Err(UNFIT),
        };
        sample.events.push(Event { at_ns, kind, text: cursor.text()?.into() });
    }
    Ok(())
}

/// Removes processes that are gone and inserts new ones, in order. `bare` creates the entry of a new process.
pub(super) fn read_members<T>(
    processes: &mut Vec<T>,
    gone: &mut Vec<usize>,
    cursor: &mut Cursor,
    identity: impl Fn(&T) -> Identity,
    bare: impl Fn(Identity) -> T,
) -> Result<(), Damage> {
    gone.clear();
    let mut places = Places::new(processes.len());
    while let Some(index) = places.next(cursor)? {
        gone.push(index);
    }
    if !gone.is_empty() {
        // `retain` visits the processes in order, and `gone` ascends: one pass is enough.
        let (mut gone, mut index) = (gone.iter().peekable(), 0);
        processes.retain(|_| {
            index += 1;
            gone.next_if_eq(&&(index - 1)).is_none()
        });
    }
    let mut added = false;
    read_new(cursor, |identity| {
        processes.push(bare(identity));
        added = true;
    })?;
    if added {
        // Two sorted runs, old and new: a stable sort merges them in linear time. A process in both is damage.
        processes.sort_by_key(&identity);
        if !processes.is_sorted_by(|a, b| identity(a) < identity(b)) {
            return Err(Damage::Inconsistent("a process occurs twice"));
        }
    }
    Ok(())
}

/// Calls `add` for the identities that are new in one record.
fn read_new(cursor: &mut Cursor, mut add: impl FnMut(Identity)) -> Result<(), Damage> {
    let mut base = Identity::default();
    for _ in 0..bounded(cursor, 3)? {
        let pid = u32::try_from(cursor.number()?).ok().and_then(|step| base.pid.checked_add(step));
        let pid = pid.ok_or(Damage::Inconsistent("a pid is too large"))?;
        base = Identity { pid, started_ns: read_started(cursor, base.started_ns)? };
        add(base);
    }
    Ok(())
}

/// Calls `add` for every process that the members of a block's records list as new.
pub(super) fn read_index(
    mut members: Cursor,
    records: u32,
    mut add: impl FnMut(Identity),
) -> Result<(), Damage> {
    for _ in 0..records {
        while members.number()? != 0 {}
        read_new(&mut members, &mut add)?;
    }
    Ok(())
}

fn read_processes(processes: &mut [Process], cursors: &mut Cursors, columns: Columns) -> Result<(), Damage> {
    let mut active = Active::begin(cursors, processes.len());
    while let Some((index, changes)) = active.next()? {
        read_changes(&mut processes[index], changes, cursors, columns)?;
    }
    active.end(cursors);
    Ok(())
}

/// The processes of one record with any change. Works on copies of the cursors until `end`, and its methods are
/// always inlined: there are millions of calls, and passing the results through memory took longer than computing
/// them.
#[must_use = "without its end the cursors stay where they were"]
pub(super) struct Active<'a> {
    places: Places,
    steps: Cursor<'a>,
    changes: Cursor<'a>,
}

impl<'a> Active<'a> {
    /// Begins a record with this number of processes.
    pub(super) fn begin(cursors: &Cursors<'a>, processes: usize) -> Self {
        Self { places: Places::new(processes), steps: cursors[ACTIVE], changes: cursors[CHANGES] }
    }

    /// Index of the next process, and its changed columns.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Result<Option<(usize, u32)>, Damage> {
        let Some(index) = self.places.next(&mut self.steps)? else { return Ok(None) };
        let changes = self.changes.number()?;
        if changes >> COUNT != 0 {
            return Err(UNFIT);
        }
        Ok(Some((index, changes as u32)))
    }

    /// Moves the cursors past the last process.
    pub(super) fn end(self, cursors: &mut Cursors<'a>) {
        (cursors[ACTIVE], cursors[CHANGES]) = (self.steps, self.changes);
    }
}

fn read_changes(
    process: &mut Process,
    changes: u32,
    cursors: &mut Cursors,
    columns: Columns,
) -> Result<(), Damage> {
    for column in column::bits(columns.among(changes)) {
        if let Some(text) = column.checked_sub(NUMBERS) {
            let value = read_text(&mut cursors[TEXTS])?.map(Arc::from);
            column::set_text(process, text, value).ok_or(UNFIT)?;
        } else {
            let value = cursors[COLUMNS + column].optional(column::number(process, column))?;
            column::set_number(process, column, value).ok_or(UNFIT)?;
        }
    }
    Ok(())
}

/// A text that may be absent.
pub(super) fn read_text<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a str>, Damage> {
    match cursor.array()? {
        [0] => Ok(None),
        [1] => cursor.text().map(Some),
        _ => Err(UNFIT),
    }
}

/// Indexes in a list, encoded as steps.
pub(super) struct Places {
    next: usize,
    length: usize,
}

impl Places {
    pub(super) fn new(length: usize) -> Self {
        Self { next: 0, length }
    }

    #[inline(always)]
    pub(super) fn next(&mut self, cursor: &mut Cursor) -> Result<Option<usize>, Damage> {
        let Some(step) = cursor.index()?.checked_sub(1) else { return Ok(None) };
        let index = self.next.checked_add(step).filter(|index| *index < self.length);
        let index = index.ok_or(Damage::Inconsistent("a value belongs to no process"))?;
        self.next = index + 1;
        Ok(Some(index))
    }
}
