//! `ctl cancel`: cancels a run.

use crate::{
    client,
    context::Context,
    error::{Error, Kind, Result},
    render::{
        Output,
        recap::{self, Ending},
    },
    steps::follow,
};

/// `ctl cancel`: cancels the run and waits until it has ended.
pub(in crate::commands) async fn cancel(context: &Context, run_id: &str, output: &Output) -> Result<()> {
    let host = follow::host_of(context, run_id).await?;
    let channel = context.connect(&host).await?.channel;
    let run = client::runs::cancel(channel.clone(), &host.name, run_id).await?;
    if proto::run::is_over(run.state()) {
        return Err(Error::new(Kind::Invalid, format!("run {run_id} has already ended"))
            .hint(format!("`ctl attach {run_id}` shows it")));
    }
    let silent = |_event| {};
    let ended = client::runs::follow(channel, &host.name, run_id, 0, silent).await?;
    if let client::runs::Followed::Ended(run) = ended {
        let ending = Ending { host: host.name, run: *run, push: None, story: Default::default() };
        return recap::recap(output, &[ending]);
    }
    output.note(&format!(
        "the connection was lost while {run_id} was cancelled; `ctl attach {run_id}` shows how it ended"
    ));
    Ok(())
}
