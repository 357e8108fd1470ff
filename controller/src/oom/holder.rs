//! Who holds memory: single processes, and all of one name together.

use std::{collections::BTreeMap, sync::Arc};

use proto::history::{Process, Sample, oom};

use crate::cpu_log::user_name;

/// A process, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: Arc<str>,
    /// Its user.
    pub user: Option<Arc<str>>,
    /// Its command line.
    pub command: Option<Arc<str>>,
    /// What it held that could not be dropped, KiB.
    pub footprint_kib: Option<u64>,
}

/// All processes of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Their name.
    pub comm: Arc<str>,
    /// How many.
    pub processes: u64,
    /// What they hold together, KiB.
    pub footprint_kib: u64,
}

/// A process of the record.
pub(super) fn named(process: &Process) -> Named {
    Named {
        pid: process.identity.pid,
        comm: Arc::clone(&process.comm),
        user: Some(user_name(process)),
        command: process.command.clone(),
        footprint_kib: Some(process.footprint_kib()),
    }
}

/// Processes of one name in the kernel's table.
pub(super) fn of_name(holder: &oom::Holder<'_>) -> Holder {
    Holder { comm: holder.comm.into(), processes: holder.processes, footprint_kib: holder.footprint_kib }
}

/// The name that holds most in a sample.
pub(super) fn by_name(sample: &Sample) -> Option<Holder> {
    let mut holders: BTreeMap<&Arc<str>, (u64, u64)> = BTreeMap::new();
    for process in &sample.processes {
        let (count, footprint_kib) = holders.entry(&process.comm).or_default();
        *count += 1;
        *footprint_kib = footprint_kib.saturating_add(process.footprint_kib());
    }
    let (comm, (processes, footprint_kib)) = holders.into_iter().max_by_key(|(_, (_, kib))| *kib)?;
    Some(Holder { comm: Arc::clone(comm), processes, footprint_kib })
}
