//! What the recorder asks of the kernel for itself, so that it outlives the outage. Nothing of it is needed to run:
//! each refusal is one sentence.

use std::{fs, path::Path};

use nix::{
    libc,
    sys::{
        mman::{MlockAllFlags, mlockall},
        resource::{Resource, getrlimit, setrlimit},
    },
};
use proto::history::Sources;

/// Almost never chosen by the OOM killer; −1000 would be never, also when the recorder itself is to blame.
const OOM_SCORE_ADJ: &str = "-999";

/// Descriptors left for everything but the kept files of processes.
const SPARE_DESCRIPTORS: u64 = 64;

/// Locks memory and asks to be spared; returns what was achieved, and sentences about what was refused.
pub(super) fn harden(proc: &Path) -> (Sources, Vec<String>) {
    let (mut achieved, mut refused) = (Sources::default(), Vec::new());
    // On fault: what is never touched of the binary need not be resident.
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    match mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault) {
        Ok(()) => achieved = achieved.with(Sources::LOCKED),
        Err(error) => refused.push(format!("the recorder may be swapped out: mlockall: {error}")),
    }
    match fs::write(proc.join("self/oom_score_adj"), OOM_SCORE_ADJ) {
        Ok(()) => achieved = achieved.with(Sources::SPARED),
        Err(error) => {
            refused.push(format!("the recorder may be killed when memory runs out: oom_score_adj: {error}"));
        }
    }
    (achieved, refused)
}

/// Raises the limit of open files as far as allowed, and returns how many may be kept open.
pub(super) fn descriptor_budget() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(limit.saturating_sub(SPARE_DESCRIPTORS)).unwrap_or(usize::MAX)
}
