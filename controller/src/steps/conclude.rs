//! The result of runs on all hosts: the recap, and the one error that decides the exit code.

use proto::{
    pb::{self, RunState},
    run::{apply, is_plan},
};

use crate::{
    error::{Error, Kind, Result},
    fanout,
    provider::Host,
    render::{
        Output,
        live::Live,
        recap::{self, Ending},
    },
};

/// States of runs that ended before their work was done.
const UNFINISHED: [RunState; 2] = [RunState::Cancelled, RunState::Interrupted];

/// Names of the hosts whose runs ended in one of these states.
fn hosts_in<'e>(endings: &'e [Ending], states: &[RunState]) -> Vec<&'e str> {
    let is_one = |ending: &&Ending| states.contains(&ending.run.state());
    endings.iter().filter(is_one).map(|ending| ending.host.as_str()).collect()
}

/// Prints the recap of applies, and combines the failures into the one error that decides the exit code.
pub(crate) fn applied(output: &Output, live: &Live, results: Vec<(Host, Result<Ending>)>) -> Result<()> {
    let mut stories = live.finish();
    let (endings, failures) = fanout::split(results);
    let told = |(host, ending): (String, Ending)| Ending {
        story: stories.remove(&host).unwrap_or_default(),
        ..ending
    };
    let endings: Vec<Ending> = endings.into_iter().map(told).collect();
    recap::recap(output, &endings)?;
    fanout::sum(failures)?;
    let failed = hosts_in(&endings, &[RunState::Failed]);
    if !failed.is_empty() {
        let error = Error::new(Kind::RunFailed, format!("the run failed on {}", failed.join(", ")));
        let again = endings.iter().find_map(|ending| apply(&ending.run)).map(|apply| {
            let noop = if apply.noop { " --noop" } else { "" };
            format!("fix the cause, then run `ctl apply {}{noop}` again", failed.join(" "))
        });
        return Err(again.into_iter().fold(error, Error::hint));
    }
    let ended = hosts_in(&endings, &UNFINISHED);
    if !ended.is_empty() {
        return Err(Error::new(Kind::Interrupted, format!("the run did not finish on {}", ended.join(", "))));
    }
    untagged(&endings)?;
    // A real apply may contain resources marked `noop` in the code; only plans count pending changes.
    let pending: u32 = endings.iter().filter(|ending| is_plan(&ending.run)).map(pending).sum();
    if pending > 0 {
        let resources = if pending == 1 { "1 resource".to_owned() } else { format!("{pending} resources") };
        return Err(Error::new(Kind::Pending, format!("{resources} would change")));
    }
    Ok(())
}

/// An error if no resource on any host has one of the tags: probably a typo. On only some hosts it may be intended.
fn untagged(endings: &[Ending]) -> Result<()> {
    let lacks = |ending: &Ending| {
        ending
            .run
            .summary
            .as_ref()
            .is_some_and(|summary| summary.total > 0 && summary.untagged == summary.total)
    };
    let tags = endings.first().and_then(|ending| apply(&ending.run)).map(|apply| apply.tags.join(" or "));
    let Some(tags) = tags.filter(|_| endings.iter().all(lacks)) else { return Ok(()) };
    let hosts: Vec<&str> = endings.iter().map(|ending| ending.host.as_str()).collect();
    Err(Error::invalid(format!(
        "no resource on {} has the tag {tags}: nothing was applied",
        hosts.join(", ")
    ))
    .hint("a resource is tagged with its type, its title, and each class and module that contains it"))
}

fn pending(ending: &Ending) -> u32 {
    ending.run.summary.as_ref().map_or(0, |summary| summary.pending)
}

/// Reports on stderr how commands ended, and combines the results into one exit code.
pub(crate) fn commands(output: &Output, live: &Live, results: Vec<(Host, Result<Ending>)>) -> Result<()> {
    live.finish();
    let (endings, failures) = fanout::split(results);
    let endings: Vec<Ending> = endings.into_iter().map(|(_, ending)| ending).collect();
    match endings.as_slice() {
        [only] if failures.is_empty() && !output.is_json() => remark(output, only),
        _ => recap::recap(&output.aside(), &endings)?,
    }
    fanout::sum(failures)?;
    let not_ended = hosts_in(&endings, &UNFINISHED);
    if !not_ended.is_empty() {
        let what = format!("the command did not finish on {}", not_ended.join(", "));
        return Err(Error::new(Kind::Interrupted, what));
    }
    match endings.iter().map(|ending| exit_code(&ending.run)).max() {
        None | Some(0) => Ok(()),
        Some(code) => Err(Error::new(Kind::Command(code), format!("exit code {code}"))),
    }
}

/// For a command on one host: prints only what went wrong, since the output itself is the result.
fn remark(output: &Output, Ending { host, run, .. }: &Ending) {
    let summary = run.summary.clone().unwrap_or_default();
    let failure = Some(summary.failure.clone()).filter(|failure| !failure.is_empty());
    for sentence in failure.into_iter().chain(recap::left(&summary)) {
        output.note(&format!("{host}: {sentence}"));
    }
}

/// The command's own exit code; at least 1 if the run failed for another reason, such as output that was cut.
fn exit_code(run: &pb::Run) -> u8 {
    let code = run.summary.as_ref().map_or(0, |summary| summary.exit_code);
    match run.state() {
        RunState::Failed => u8::try_from(code).unwrap_or(u8::MAX).max(1),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_code_is_ctls_and_a_failure_is_never_0() {
        let run = |state: RunState, exit_code| pb::Run {
            state: state.into(),
            summary: Some(pb::Summary { exit_code, ..pb::Summary::default() }),
            ..pb::Run::default()
        };
        assert_eq!(exit_code(&run(RunState::Succeeded, 0)), 0);
        for (code, wanted) in [(3, 3), (0, 1), (137, 137), (255, 255), (-1, 255)] {
            assert_eq!(exit_code(&run(RunState::Failed, code)), wanted);
        }
    }
}
