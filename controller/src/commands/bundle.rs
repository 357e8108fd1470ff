//! `ctl bundle build|show`: what would be pushed, without pushing it.

use std::sync::Arc;

use super::{apply, syntax};
use crate::{
    bundle::check,
    cli::BundleCommand,
    context::Context,
    error::Result,
    render::{self, Output},
};

/// Builds the bundle and prints its digest, or what is in it.
pub(super) async fn bundle(context: Arc<Context>, args: &BundleCommand, output: &Output) -> Result<()> {
    match args {
        BundleCommand::Build(source) => {
            let bundle = Arc::new(apply::load(&context, source, output)?);
            for role in context.config.roles.keys() {
                check::check(&bundle, &context.config.bundle.environment, role)?;
            }
            match context.local.images()?.last() {
                Some(image) => syntax::check(&context, &bundle, Some(image)).await?,
                None => {
                    output.note("the manifests were not parsed: that takes an image, `ctl bake` makes one")
                }
            }
            render::bundle::bundle(output, &bundle)
        }
        BundleCommand::Show(source) => {
            render::bundle::entries(output, &apply::load(&context, source, output)?)
        }
    }
}
