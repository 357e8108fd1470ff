//! `ctl destroy`: deletes hosts, after a confirmation.

use std::sync::Arc;

use super::{adopt, said};
use crate::{
    cli::Destroy,
    context::Context,
    error::{Error, Kind, Result},
    fanout,
    provider::{Host, Kind as ProviderKind},
    render::{
        Output,
        question::{self, Answer},
    },
    steps::consent,
};

/// `ctl destroy HOST…`; adopted machines keep running, and with `--forget` keep their agent.
pub(in crate::commands) async fn destroy(
    context: Arc<Context>,
    args: &Destroy,
    output: &Output,
) -> Result<()> {
    let hosts = context.named(&args.hosts).await?;
    if !args.yes && !question::can_be_asked() {
        return Err(Error::invalid("destroy asks for confirmation, and there is no terminal to ask on")
            .hint("--yes skips the confirmation"));
    }
    let mut hosts = consent::all(&context, hosts, "destroy", args.force).await?;
    if !args.yes && !agreed(&hosts, args.forget, output) {
        return Err(Error::new(Kind::Interrupted, "nothing was destroyed"));
    }
    let forget = args.forget;
    let results = fanout::each(hosts.iter().map(|(host, _)| host.clone()).collect(), |host| {
        let context = Arc::clone(&context);
        let place = hosts.iter().position(|(consenting, _)| consenting.id == host.id);
        let channel = place.map(|place| hosts.swap_remove(place).1);
        async move {
            if let Some(channel) = channel.filter(|_| host.provider == ProviderKind::Ssh && !forget) {
                adopt::leave(&context, &host, channel).await?;
            }
            context.provider(host.provider)?.destroy(&host).await?;
            Ok("destroyed")
        }
    });
    said(results.await, output)
}

/// Lists what will be deleted, and asks for confirmation.
fn agreed(hosts: &[consent::Consenting], forget: bool, output: &Output) -> bool {
    for (host, _) in hosts {
        output.note(&format!("{}: {}", host.name, loss(host, forget)));
    }
    let what = if let [(host, _)] = hosts { host.name.clone() } else { format!("{} hosts", hosts.len()) };
    question::ask(output, &format!("destroy {what}?")) == Answer::Yes
}

/// What `destroy` deletes of this host, in words.
fn loss(host: &Host, forget: bool) -> String {
    let whose = match host.usage.owner.as_str() {
        "" => String::new(),
        owner => format!(" ({owner}'s)"),
    };
    match (host.provider, forget) {
        (ProviderKind::Ssh, true) => format!("its entry in the fleet{whose}; the agent stays installed"),
        (ProviderKind::Ssh, false) => {
            format!("the agent, its runs and its flight record{whose}; the machine keeps running")
        }
        _ => format!("the host with its disk, runs and flight record{whose}"),
    }
}
