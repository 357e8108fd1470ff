//! `ctl hosts`: all hosts of the fleet, as the providers list them.

use std::sync::Arc;

use crate::{
    cli::Hosts,
    context::Context,
    error::Result,
    render::{Output, hosts as table},
    steps::certificates,
};

/// `ctl hosts`
pub(in crate::commands) async fn hosts(context: &Arc<Context>, args: &Hosts, output: &Output) -> Result<()> {
    let hosts = context.list(args.all).await?;
    table::hosts(output, &hosts, jiff::Timestamp::now(), args.wide)?;
    certificates::warn(context, &hosts, output).await;
    Ok(())
}
