//! One apply on one host: push the bundle, start the run, follow it.

use std::{sync::Arc, time::SystemTime};

use proto::pb::{self, start_request::What};

use super::{follow, lease, started::Started};
use crate::{
    bundle::{Bundle, push, source},
    connect::Connected,
    context::Context,
    error::Result,
    provider::Host,
    render::{Output, live::Live, recap::Ending},
};

/// What to apply; the same on every host.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) bundle: Arc<Bundle>,
    pub(crate) noop: bool,
    pub(crate) private: bool,
    pub(crate) tags: Vec<String>,
}

/// Builds the bundle from a git revision, or from the working tree if `revision` is `None`.
pub(crate) fn load(context: &Context, revision: Option<&str>, output: &Output) -> Result<Bundle> {
    let (directory, config, now) = (&context.directory, &context.config.bundle, SystemTime::now());
    let bundle = match revision {
        Some(revision) => source::from_revision(directory, config, revision, now),
        None => source::from_working_tree(directory, config, now),
    }?;
    bundle.warnings().iter().for_each(|warning| output.note(&format!("warning: {warning}")));
    Ok(bundle)
}

/// The live display for these hosts.
pub(crate) fn screen(output: &Output, hosts: &[Host]) -> Live {
    Live::new(output, &hosts.iter().map(|host| host.name.clone()).collect::<Vec<_>>())
}

/// Pushes the bundle to a host, applies it, and follows the run to its end.
pub(crate) async fn apply_on(
    context: &Context,
    host: &Host,
    connected: Connected,
    job: &Job,
    live: &Live,
    started: &Started,
) -> Result<Ending> {
    let channel = connected.channel;
    let pushed = push::push(channel.clone(), &job.bundle).await?;
    let request = pb::StartRequest {
        run_id: follow::new_run_id(&host.name)?,
        what: Some(What::Apply(pb::Apply {
            bundle: job.bundle.digest().to_string(),
            role: host.role.clone(),
            environment: context.config.bundle.environment.clone(),
            noop: job.noop,
            tags: job.tags.clone(),
            commit: lease::commit(&job.bundle),
        })),
        private: job.private,
        ..pb::StartRequest::default()
    };
    let run = started.start(channel.clone(), host, request, live).await?;
    let run = follow::to_the_end(context, host, channel, &run.run_id, live).await?;
    Ok(Ending { host: host.name.clone(), run, push: Some(pushed.to_string()), story: Default::default() })
}
