//! Hosts that are reused, skipped or cleaned up, and why.

use serde_json::json;

use super::Output;
use crate::{
    error::Result,
    pool::{
        gc::Step,
        ladder::{Ladder, PassedOver, Rung},
    },
};

/// Why free hosts are not reused.
pub(crate) fn passed_over(output: &Output, hosts: &[PassedOver]) {
    for PassedOver { host, why } in hosts {
        output.note(&format!("{host} is not reused: {why}"));
    }
}

/// Prints what `provision` would do.
///
/// # Errors
/// When stdout cannot be written; a closed pipe is no error.
pub(crate) fn plan(output: &Output, ladder: &Ladder, names: &[String]) -> Result<()> {
    let used = ladder.candidates.iter().take(names.len());
    for candidate in used.clone() {
        row(output, &candidate.host.name, Some(candidate.rung))?;
    }
    names.iter().take(names.len() - used.len()).try_for_each(|name| row(output, name, None))
}

fn row(output: &Output, host: &str, rung: Option<Rung>) -> Result<()> {
    if output.is_json() {
        let how = match rung {
            None => "launch",
            Some(Rung::Unfinished) => "finish",
            Some(Rung::Running) => "reuse",
            Some(Rung::Stopped) => "start",
        };
        return output.record("plan", json!({ "host": host, "how": how }));
    }
    let how = match rung {
        None => "would be launched".to_owned(),
        Some(_) => how(rung).replacen("is ", "would be ", 1),
    };
    output.line(format_args!("{host}  {how}"))
}

/// How `provision` gets a host, in words.
pub(crate) fn how(rung: Option<Rung>) -> &'static str {
    match rung {
        None => "is launched",
        Some(Rung::Unfinished) => "is finished: its provisioning was interrupted",
        Some(Rung::Running) => "is reused: running and free",
        Some(Rung::Stopped) => "is reused: stopped and free",
    }
}

/// Prints what `gc` would do, and why.
///
/// # Errors
/// As [`plan`].
pub(crate) fn cleaning(output: &Output, steps: &[Step]) -> Result<()> {
    steps.iter().try_for_each(|step| {
        let (verb, host) = (step.action.words().0, &step.host);
        if output.is_json() {
            let about = json!({ "host": host.name, "id": host.id, "region": host.region, "action": verb, "why": step.why });
            return output.record("gc", about);
        }
        output.line(format_args!("{verb:<7}  {} ({}): {}", host.name, host.id, step.why))
    })
}
