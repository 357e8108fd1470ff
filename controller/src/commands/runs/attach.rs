//! `ctl attach`: follows an existing run from its beginning.

use std::sync::Arc;

use proto::{pb::start_request::What, run::what};

use crate::{
    client,
    context::Context,
    error::Result,
    render::{Output, recap::Ending},
    steps::{
        conclude, follow, job,
        started::{self, Started},
    },
};

/// `ctl attach`
pub(in crate::commands) async fn attach(
    context: Arc<Context>,
    run_id: &str,
    diffs: bool,
    output: &Output,
) -> Result<()> {
    let host = follow::host_of(&context, run_id).await?;
    let channel = context.connect(&host).await?.channel;
    client::runs::get(channel.clone(), &host.name, run_id).await?;
    let (live, started) = (job::screen(output, std::slice::from_ref(&host)), Started::default());
    live.show_diffs(diffs);
    started.add(run_id);
    let work = follow::to_the_end(&context, &host, channel, run_id, &live);
    let run = started::or_detach(work, &live, &started).await??;
    let is_command = matches!(what(&run), Some(What::Command(_)));
    let ending = Ending { host: host.name.clone(), run, push: None, story: Default::default() };
    let results = vec![(host, Ok(ending))];
    if is_command {
        conclude::commands(output, &live, results)
    } else {
        conclude::applied(output, &live, results)
    }
}
