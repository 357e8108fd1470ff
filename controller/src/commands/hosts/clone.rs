//! `ctl clone`: launches a copy of a host in its current state.

use std::{sync::Arc, time::SystemTime};

use crate::{
    cli::CloneHost,
    config::RoleConfig,
    context::Context,
    error::{Error, Result},
    pki,
    pool::claim::Claimant,
    provider::{Host, Launch, Usage},
    render::{Output, table},
    steps::{consent, lease, obtain},
};

/// Copies the disk, boots the copy and enrols it. Does not apply Puppet code: the copy has the state of the original.
pub(in crate::commands) async fn clone(
    context: Arc<Context>,
    args: &CloneHost,
    output: &Output,
) -> Result<()> {
    let original = context.one(&args.host).await?;
    context.fleet.enroller(SystemTime::now())?;
    consent::all(&context, vec![original.clone()], "clone", args.force).await?;
    let claimant = Claimant::of_this_process()?;
    let names = obtain::names(&original.role, &context.hosts().await?, 1);
    let launch = launch_of(&context, &original, &claimant, names.concat())?;
    let (provider, notes) = (context.provider(original.provider)?, output.notes());
    let mut host =
        provider.clone_host(&original, &launch, args.with_record, &|line| notes.note(line)).await?;
    let taken = async {
        let channel = context.connect(&host).await?.channel;
        lease::settle(&context, &mut host, &channel, &claimant, None).await
    };
    taken.await.map_err(|error| {
        error.context_once(&host.name).hint(format!(
            "{0} was kept: `ctl status {0}` tries again, `ctl destroy {0}` deletes it",
            host.name
        ))
    })?;
    table::made(output, &host)
}

/// The launch settings of the original, with the caller as owner.
fn launch_of(context: &Context, original: &Host, claimant: &Claimant, name: String) -> Result<Launch> {
    if !original.enrolled() {
        return Err(Error::invalid(format!("{} cannot be cloned: it is not enrolled yet", original.name))
            .hint(format!("`ctl status {}` finishes its enrolment", original.name)));
    }
    let (tid, now) = (pki::new_tid()?, SystemTime::now());
    let role = context.config.roles.get(&original.role).cloned().unwrap_or_default();
    Ok(Launch {
        fleet: context.fleet.id().to_owned(),
        role: original.role.clone(),
        name,
        enrol_document: context.fleet.enrol_document(&tid, now)?.to_vec(),
        tid,
        image: original.image.clone(),
        settings: RoleConfig { memory: original.memory, ..role },
        usage: Usage {
            owner: context.user_name()?,
            holder: claimant.holder.clone(),
            claim: claimant.id.clone(),
            commit: original.usage.commit.clone(),
            bundle: original.usage.bundle.clone(),
            ..Usage::default()
        },
        fingerprint: original.fingerprint.clone(),
        clone_of: Some(original.name.clone()),
    })
}
