//! `ctl bundle build|show`: what would be pushed, without pushing it.

use super::apply;
use crate::{
    bundle::check,
    cli::BundleCommand,
    context::Context,
    error::Result,
    render::{self, Output},
};

/// Builds the bundle and prints its digest, or what is in it.
pub(super) fn bundle(context: &Context, args: &BundleCommand, output: &Output) -> Result<()> {
    match args {
        BundleCommand::Build(source) => {
            let bundle = apply::load(context, source)?;
            for role in context.config.roles.keys() {
                check::check(&bundle, role)?;
            }
            render::bundle::bundle(output, &bundle)
        }
        BundleCommand::Show(source) => render::bundle::entries(output, &apply::load(context, source)?),
    }
}
