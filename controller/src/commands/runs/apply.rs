//! `ctl apply`: pushes Puppet code to hosts and applies it.

use std::sync::Arc;

use crate::{
    bundle::check,
    cli::{Apply, Chosen},
    context::Context,
    error::Result,
    fanout,
    render::Output,
    steps::{
        conclude,
        job::{self, Job},
        lease, parse,
        started::{self, Started},
    },
};

/// `ctl apply`
pub(in crate::commands) async fn apply(context: Arc<Context>, args: &Apply, output: &Output) -> Result<()> {
    let Chosen { hosts, role, all } = &args.targets;
    let hosts = context.chosen(hosts, role.as_deref(), *all, "apply").await?;
    let bundle = Arc::new(job::load(&context, args.source.rev.as_deref(), output)?);
    for host in &hosts {
        check::check(&bundle, &context.config.bundle.environment, &host.role)?;
    }
    let images = context.local.images()?;
    let image = hosts.iter().map(|host| &host.image).find(|image| images.contains(image));
    parse::check(&context, &bundle, image).await?;
    let job = Job { bundle, noop: args.noop, private: args.private, tags: args.tags.clone() };
    let (live, started) = (job::screen(output, &hosts), Started::default());
    live.show_diffs(!args.no_diff);
    let work = fanout::each(hosts, |mut host| {
        let (context, job, live, started) =
            (Arc::clone(&context), job.clone(), live.clone(), started.clone());
        async move {
            let connected = context.connect(&host).await?;
            let channel = connected.channel.clone();
            lease::used(&context, &mut host, &channel, None).await?;
            let ending = job::apply_on(&context, &host, connected, &job, &live, &started).await?;
            lease::used(&context, &mut host, &channel, (!job.noop).then_some(&*job.bundle)).await?;
            Ok(ending)
        }
    });
    let results = started::or_detach(work, &live, &started).await?;
    conclude::applied(output, &live, results)
}
