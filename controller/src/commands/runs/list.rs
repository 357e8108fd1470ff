//! `ctl runs`: recent runs on hosts.

use std::sync::Arc;

use jiff::tz::TimeZone;
use proto::pb::Run;

use crate::{
    cli::Runs,
    client,
    context::Context,
    error::Result,
    fanout::{self, split},
    render::{Output, table},
};

/// `ctl runs`
pub(in crate::commands) async fn runs(context: Arc<Context>, args: &Runs, output: &Output) -> Result<()> {
    let Runs { targets, limit } = args;
    let (hosts, stopped) = context.running_and_stopped(&targets.hosts, targets.role.as_deref()).await?;
    // One more shows whether there are older ones.
    let asked = limit + 1;
    let results = fanout::each(hosts, |host| {
        let context = Arc::clone(&context);
        async move {
            let channel = context.connect(&host).await?.channel;
            client::runs::list(channel, &host.name, asked).await
        }
    });
    let (mut lists, failures) = split(results.await);
    let cut = cut(&mut lists, *limit);
    let runs: Vec<_> = lists
        .into_iter()
        .flat_map(|(host, runs)| runs.into_iter().map(move |run| (host.clone(), run)))
        .collect();
    table::runs(output, &runs, &TimeZone::system())?;
    table::left_out(output, stopped.len());
    if !cut.is_empty() {
        let hosts = cut.join(", ");
        output.note(&format!(
            "older runs of {hosts} are left out; `ctl runs --limit N` shows more than {limit}"
        ));
    }
    fanout::sum(failures)
}

/// Removes the runs beyond the limit. Returns the names of the hosts that had more.
fn cut(lists: &mut [(String, Vec<Run>)], limit: u32) -> Vec<String> {
    let limit = limit as usize;
    let longer = lists.iter_mut().filter(|(_, runs)| runs.len() > limit);
    longer
        .map(|(host, runs)| {
            runs.truncate(limit);
            host.clone()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_more_runs_than_shown_are_named() {
        let runs = |host: &str, count| (host.to_owned(), vec![Run::default(); count]);
        let mut lists = [runs("db-1", 3), runs("db-2", 2), runs("web-1", 4), runs("web-2", 0)];
        assert_eq!(cut(&mut lists, 2), ["db-1", "web-1"]);
        assert_eq!(lists.map(|(_, runs)| runs.len()), [2, 2, 2, 0]);
    }
}
