//! One sample as bytes: what changed since the sample before it, column by column.
//!
//! ```text
//! key u8 · wall_ms i64 · boottime_ns u64                    fixed, so that a time can be had without decoding
//! interval_ns · late_ns · sweep_ns · listed                 numbers
//! host counters                                             each against the one before
//! (index step + 1)* 0                                       processes that are gone
//! count · (pid step, started_ns)*                           processes that are new
//! 16 columns: ((index step + 1) · value)* 0                 only processes whose value changed
//! ```
//!
//! A process that did nothing costs no byte. A `key` record leans on nothing before it.

use std::sync::Arc;

use super::{
    BootId, Damage, Identity, Process, Sample,
    varint::{self, Cursor},
};

type Number = (fn(&Process) -> Option<u64>, fn(&mut Process, Option<u64>) -> Option<()>);
type Text = (fn(&Process) -> Option<&Arc<str>>, fn(&mut Process, Option<Arc<str>>) -> Option<()>);

/// A column of numbers; setting fails if the value does not fit the field.
macro_rules! number {
    ($field:ident: Option<$type:ty>) => {
        (
            |process| process.$field.map(u64::from),
            |process, value| {
                process.$field = value.map(<$type>::try_from).transpose().ok()?;
                Some(())
            },
        )
    };
    ($field:ident: $type:ty) => {
        (
            |process| Some(u64::from(process.$field)),
            |process, value| {
                process.$field = <$type>::try_from(value?).ok()?;
                Some(())
            },
        )
    };
}

const NUMBERS: [Number; 13] = [
    number!(parent: u32),
    number!(uid: Option<u32>),
    number!(state: u8),
    number!(threads: u32),
    number!(user_ns: u64),
    number!(system_ns: u64),
    number!(major_faults: u64),
    number!(virtual_kib: u64),
    number!(resident_kib: u64),
    number!(anon_kib: Option<u64>),
    number!(file_kib: Option<u64>),
    number!(shmem_kib: Option<u64>),
    number!(swap_kib: Option<u64>),
];

const TEXTS: [Text; 3] = [
    (
        |process| Some(&process.comm),
        |process, text| {
            process.comm = text?;
            Some(())
        },
    ),
    (
        |process| process.user.as_ref(),
        |process, text| {
            process.user = text;
            Some(())
        },
    ),
    (
        |process| process.command.as_ref(),
        |process, text| {
            process.command = text;
            Some(())
        },
    ),
];

/// Turns samples into records, each against the one before it.
#[derive(Debug, Default)]
pub struct Encoder {
    previous: Option<Sample>,
    /// For each process of the new sample, its place in the previous one. Kept for its allocation.
    matches: Vec<Option<usize>>,
}

impl Encoder {
    /// Makes the next record a key: what came before it may not be there for the reader.
    pub fn restart(&mut self) {
        self.previous = None;
    }

    /// Appends one record to `out`. The sample's processes must be in order of identity, each once.
    pub fn encode(&mut self, sample: &Sample, out: &mut Vec<u8>) {
        debug_assert!(sample.processes.is_sorted_by(|a, b| a.identity < b.identity));
        out.push(u8::from(self.previous.is_none()));
        out.extend(sample.wall_ms.to_le_bytes());
        out.extend(sample.boottime_ns.to_le_bytes());
        let empty = Sample::default();
        let previous = self.previous.as_ref().unwrap_or(&empty);
        for number in [sample.interval_ns, sample.late_ns, sample.sweep_ns, sample.listed] {
            varint::write(out, number.into());
        }
        for (before, now) in previous.host.values().zip(sample.host.values()) {
            varint::write_optional(out, before, now);
        }
        write_membership(&previous.processes, &sample.processes, &mut self.matches, out);
        write_columns(&previous.processes, &sample.processes, &self.matches, out);
        match &mut self.previous {
            Some(previous) => previous.clone_from(sample),
            None => self.previous = Some(sample.clone()),
        }
    }
}

/// Writes who is gone and who is new, and notes in `matches` who stayed.
fn write_membership(
    before: &[Process],
    now: &[Process],
    matches: &mut Vec<Option<usize>>,
    out: &mut Vec<u8>,
) {
    matches.clear();
    let mut old = 0;
    let mut next_index = 0;
    let mut gone = |out: &mut Vec<u8>, index: usize| {
        varint::write(out, (index - next_index + 1) as u128);
        next_index = index + 1;
    };
    for process in now {
        while before.get(old).is_some_and(|candidate| candidate.identity < process.identity) {
            gone(out, old);
            old += 1;
        }
        let stayed = before.get(old).is_some_and(|candidate| candidate.identity == process.identity);
        matches.push(stayed.then_some(old));
        old += usize::from(stayed);
    }
    for index in old..before.len() {
        gone(out, index);
    }
    out.push(0);

    varint::write(out, matches.iter().filter(|place| place.is_none()).count() as u128);
    let mut pid = 0;
    for (process, _) in now.iter().zip(matches.iter()).filter(|(_, place)| place.is_none()) {
        varint::write(out, u128::from(process.identity.pid - pid));
        varint::write(out, u128::from(process.identity.started_ns));
        pid = process.identity.pid;
    }
}

fn write_columns(before: &[Process], now: &[Process], matches: &[Option<usize>], out: &mut Vec<u8>) {
    let bare = Process::bare(Identity::default());
    let base = |index: usize| matches[index].map_or(&bare, |place| &before[place]);
    for (get, _) in NUMBERS {
        write_column(out, now.len(), |index, step, out| {
            let (old, new) = (get(base(index)), get(&now[index]));
            if old == new {
                return false;
            }
            varint::write(out, step);
            varint::write_optional(out, old, new);
            true
        });
    }
    for (get, _) in TEXTS {
        write_column(out, now.len(), |index, step, out| {
            let (old, new) = (get(base(index)), get(&now[index]));
            if old == new {
                return false;
            }
            varint::write(out, step);
            let text = new.map_or("", |text| text);
            varint::write(out, u128::from(new.is_some()));
            varint::write(out, text.len() as u128);
            out.extend(text.as_bytes());
            true
        });
    }
}

/// Calls `write(index, step, out)` for every index; it writes step and value and returns true, or writes nothing.
fn write_column(out: &mut Vec<u8>, length: usize, mut write: impl FnMut(usize, u128, &mut Vec<u8>) -> bool) {
    let mut next_index = 0;
    for index in 0..length {
        if write(index, (index - next_index + 1) as u128, out) {
            next_index = index + 1;
        }
    }
    out.push(0);
}

/// Turns records back into samples.
#[derive(Clone, Debug)]
pub struct Decoder {
    boot_id: BootId,
    current: Option<Sample>,
}

impl Decoder {
    /// For records of one boot, from the first on.
    pub fn new(boot_id: BootId) -> Self {
        Self { boot_id, current: None }
    }

    /// Reads one record from the front of `input`. After damage, only a key record can be read.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<&Sample, Damage> {
        let mut cursor = Cursor(input);
        let previous = self.current.take();
        let sample = read_sample(self.boot_id, previous, &mut cursor)?;
        *input = cursor.0;
        Ok(self.current.insert(sample))
    }
}

/// The times that every record begins with, without decoding the rest: wall ms and `CLOCK_BOOTTIME` ns.
pub(super) fn times(record: &[u8]) -> Result<(i64, u64), Damage> {
    let mut cursor = Cursor(record);
    cursor.bytes(1)?;
    Ok((i64::from_le_bytes(cursor.array()?), u64::from_le_bytes(cursor.array()?)))
}

fn read_sample(boot_id: BootId, previous: Option<Sample>, cursor: &mut Cursor) -> Result<Sample, Damage> {
    let mut sample = match (cursor.array()?, previous) {
        ([0], Some(previous)) => previous,
        ([0], None) => return Err(Damage::Inconsistent("a record leans on one that is missing")),
        ([1], _) => Sample::default(),
        _ => return Err(Damage::Inconsistent("a record is of an unknown kind")),
    };
    sample.boot_id = boot_id;
    sample.wall_ms = i64::from_le_bytes(cursor.array()?);
    sample.boottime_ns = u64::from_le_bytes(cursor.array()?);
    sample.interval_ns = cursor.number()?;
    sample.late_ns = cursor.number()?;
    sample.sweep_ns = cursor.number()?;
    sample.listed = cursor.number()?;
    for value in sample.host.values_mut() {
        *value = cursor.optional(*value)?;
    }
    read_membership(&mut sample.processes, cursor)?;
    read_columns(&mut sample.processes, cursor)?;
    Ok(sample)
}

fn read_membership(processes: &mut Vec<Process>, cursor: &mut Cursor) -> Result<(), Damage> {
    let mut gone = Vec::new();
    read_column(cursor, processes.len(), |index, _| {
        gone.push(index);
        Ok(())
    })?;
    let mut gone = gone.into_iter().peekable();
    let mut index = 0;
    processes.retain(|_| {
        index += 1;
        gone.next_if_eq(&(index - 1)).is_none()
    });

    let count = cursor.index()?;
    // A new process takes two bytes at least, so the count cannot ask for more memory than the input justifies.
    if count > cursor.0.len() / 2 {
        return Err(Damage::Cut);
    }
    let mut pid = 0u32;
    for _ in 0..count {
        let step = u32::try_from(cursor.number()?).ok();
        pid =
            step.and_then(|step| pid.checked_add(step)).ok_or(Damage::Inconsistent("a pid is too large"))?;
        processes.push(Process::bare(Identity { pid, started_ns: cursor.number()? }));
    }
    processes.sort_by_key(|process| process.identity);
    if processes.is_sorted_by(|a, b| a.identity < b.identity) {
        Ok(())
    } else {
        Err(Damage::Inconsistent("a process is there twice"))
    }
}

fn read_columns(processes: &mut [Process], cursor: &mut Cursor) -> Result<(), Damage> {
    const UNFIT: Damage = Damage::Inconsistent("a value does not fit its field");
    for (get, set) in NUMBERS {
        read_column(cursor, processes.len(), |index, cursor| {
            let value = cursor.optional(get(&processes[index]))?;
            set(&mut processes[index], value).ok_or(UNFIT)
        })?;
    }
    for (_, set) in TEXTS {
        read_column(cursor, processes.len(), |index, cursor| {
            let present = cursor.number()? != 0;
            let text = cursor.text()?;
            set(&mut processes[index], present.then(|| Arc::from(text))).ok_or(UNFIT)
        })?;
    }
    Ok(())
}

/// Calls `read` for every index that the column names.
fn read_column<'a>(
    cursor: &mut Cursor<'a>,
    length: usize,
    mut read: impl FnMut(usize, &mut Cursor<'a>) -> Result<(), Damage>,
) -> Result<(), Damage> {
    let mut next_index = 0usize;
    loop {
        let step = cursor.index()?;
        if step == 0 {
            return Ok(());
        }
        let index = next_index.checked_add(step - 1).filter(|index| *index < length);
        let index = index.ok_or(Damage::Inconsistent("a value belongs to no process"))?;
        read(index, cursor)?;
        next_index = index + 1;
    }
}
