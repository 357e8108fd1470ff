//! `ctl bundle build|show`: builds the bundle without pushing it.

use std::sync::Arc;

use crate::{
    bundle::check,
    cli::BundleCommand,
    context::Context,
    error::Result,
    render::{self, Output},
    steps::{job, parse},
};

/// Builds the bundle and prints its digest or its list of files.
pub(in crate::commands) async fn bundle(
    context: Arc<Context>,
    args: &BundleCommand,
    output: &Output,
) -> Result<()> {
    match args {
        BundleCommand::Build(source) => {
            let bundle = Arc::new(job::load(&context, source.rev.as_deref(), output)?);
            for role in context.config.roles.keys() {
                check::check(&bundle, &context.config.bundle.environment, role)?;
            }
            match context.local.images()?.last() {
                Some(image) => parse::check(&context, &bundle, Some(image)).await?,
                None => output
                    .note("the manifests were not parsed, because there is no image yet: run `ctl bake`"),
            }
            render::bundle::bundle(output, &bundle)
        }
        BundleCommand::Show(source) => {
            render::bundle::entries(output, &job::load(&context, source.rev.as_deref(), output)?)
        }
    }
}
