//! The stream of control groups, in both directions.
//!
//! ```text
//! 0: no group has changed
//! 1: (index step + 1 · mask u32 · values)* 0 of groups that changed
//! 2: count · paths · the same as for 1, from groups without values
//! ```

use std::sync::Arc;

use super::{
    column::bits,
    damage::Damage,
    decoder::{Places, UNFIT, bounded},
    varint::{Cursor, write, write_optional, write_text},
};
use crate::sample::{Group, GroupCounters};

/// Writes the counters that differ, behind a mask.
fn write_changes(before: &GroupCounters, now: &GroupCounters, out: &mut Vec<u8>) {
    let pairs = || before.values().into_iter().zip(now.values());
    let bit = |(bit, (before, now)): (usize, (Option<u64>, Option<u64>))| u32::from(before != now) << bit;
    let mask = pairs().enumerate().map(bit).fold(0, |mask, bit| mask | bit);
    out.extend(mask.to_le_bytes());
    pairs().filter(|(before, now)| before != now).for_each(|(before, now)| write_optional(out, before, now));
}

/// Reads what [`write_changes`] wrote.
fn read_changes(counters: &mut GroupCounters, cursor: &mut Cursor) -> Result<(), Damage> {
    let mut values = counters.values_mut();
    for bit in bits(u32::from_le_bytes(cursor.array()?)) {
        let value = values.get_mut(bit).ok_or(UNFIT)?;
        **value = cursor.optional(**value)?;
    }
    Ok(())
}

/// Writes the groups that have changed.
pub(super) fn write_groups(before: &[Group], now: &[Group], out: &mut Vec<u8>) {
    if before == now {
        return out.push(0);
    }
    let same = before.len() == now.len() && before.iter().zip(now).all(|(a, b)| is_same(&a.path, &b.path));
    out.push(if same { 1 } else { 2 });
    if !same {
        write(out, now.len() as u64);
        now.iter().for_each(|group| write_text(out, &group.path));
    }
    let mut next = 0;
    for (index, group) in now.iter().enumerate() {
        let base = if same { before[index].counters } else { GroupCounters::default() };
        if base != group.counters {
            write(out, (index - next + 1) as u64);
            write_changes(&base, &group.counters, out);
            next = index + 1;
        }
    }
    out.push(0);
}

/// Reads the groups that have changed.
pub(super) fn read_groups(groups: &mut Vec<Group>, cursor: &mut Cursor) -> Result<(), Damage> {
    match cursor.array()? {
        [0] => return Ok(()),
        [1] => {}
        [2] => {
            let count = bounded(cursor, 1)?;
            let bare = |path: &str| Group { path: Arc::from(path), ..Group::default() };
            *groups = (0..count).map(|_| cursor.text().map(bare)).collect::<Result<_, _>>()?;
        }
        _ => return Err(UNFIT),
    }
    let mut places = Places::new(groups.len());
    while let Some(index) = places.next(cursor)? {
        read_changes(&mut groups[index].counters, cursor)?;
    }
    Ok(())
}

fn is_same(a: &Arc<str>, b: &Arc<str>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}
