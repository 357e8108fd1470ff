//! Hardening, so that the recorder survives an outage. Every step is optional: a refused one is reported in one
//! sentence.

use std::{
    fs,
    path::Path,
    process::{self, Command, Stdio},
};

use nix::{
    libc,
    sys::{
        mman::{MlockAllFlags, mlockall},
        resource::{Resource, getrlimit, setrlimit},
    },
};
use record::Sources;

/// Almost never chosen by the OOM killer; −1000 would mean never, even if the recorder itself is to blame.
const OOM_SCORE_ADJ: i32 = -999;
/// From this value on, the kernel prefers almost any other process; set by the unit file or an administrator.
const SPARED_FROM: i32 = -900;

/// File descriptors reserved for everything except the kept files of processes.
const SPARE_DESCRIPTORS: u64 = 64;

/// Locks memory and protects the process; returns what was achieved, and sentences about what was refused.
pub(super) fn harden(proc: &Path) -> (Sources, Vec<String>) {
    let (mut achieved, mut refused) = (Sources::default(), Vec::new());
    let mut note = |source, refusal: Option<String>| match refusal {
        None => achieved = achieved.with(source),
        Some(sentence) => refused.push(sentence),
    };
    note(Sources::LOCKED, lock());
    note(Sources::SPARED, ask_to_be_spared(&proc.join("self/oom_score_adj")));
    refused.extend(go_first());
    (achieved, refused)
}

/// Makes all threads real-time, which gives them a CPU before ordinary threads, and memory from the kernel's reserve
/// (`gfp_to_alloc_flags` in mm/page_alloc.c): without that, both the sampling and the writing thread have been observed
/// waiting in reclaim for seconds. Returns the reason if that fails. Uses chrt(1), since no safe library has the call.
fn go_first() -> Option<String> {
    let own = process::id().to_string();
    let arguments = ["--all-tasks", "--reset-on-fork", "--rr", "--pid", "1", &own];
    let done = Command::new("chrt").args(arguments).stdin(Stdio::null()).output();
    let reason = match done {
        Ok(output) if output.status.success() => return None,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("chrt: {error}"),
    };
    Some(format!("the recorder is not real-time and may be delayed when memory runs out: {reason}"))
}

/// Locks memory; returns the reason if that fails.
fn lock() -> Option<String> {
    // On fault: pages of the binary that are never touched need not be resident.
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    let locked = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault);
    locked.err().map(|error| format!("the recorder may be swapped out: mlockall: {error}"))
}

/// Lowers the OOM score; returns the reason if that fails. The value may be low enough already: lowering it further
/// needs CAP_SYS_RESOURCE, keeping it needs no capability.
fn ask_to_be_spared(path: &Path) -> Option<String> {
    let written = fs::write(path, OOM_SCORE_ADJ.to_string());
    let adjustment = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if adjustment.is_some_and(|adjustment| adjustment <= SPARED_FROM) {
        return None;
    }
    let reason =
        written.err().map_or_else(|| "the kernel kept its value".to_owned(), |error| error.to_string());
    Some(format!(
        "the recorder may be killed when memory runs out: oom_score_adj: {reason}; CAP_SYS_RESOURCE is needed"
    ))
}

/// Raises the limit of open files as far as allowed, and returns how many files may be kept open.
pub(super) fn descriptor_budget() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    usize::try_from(limit.saturating_sub(SPARE_DESCRIPTORS)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_or_sufficient_value_is_granted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("oom_score_adj");
        assert_eq!(ask_to_be_spared(&path), None);
        assert_eq!(fs::read_to_string(&path).unwrap(), "-999");
        let refused = ask_to_be_spared(&directory.path().join("missing/oom_score_adj")).unwrap();
        assert!(
            refused.contains("No such file") && refused.ends_with("CAP_SYS_RESOURCE is needed"),
            "{refused}"
        );
    }
}
