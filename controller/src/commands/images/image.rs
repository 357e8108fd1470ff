//! `ctl image list`, `ctl image prune`: the images that hosts boot from.

use crate::{
    cli::{ImageCommand, ImagePrune},
    context::Context,
    error::Result,
    pool::images::{Uses, superfluous, uses},
    provider::Image,
    render::{Output, image as render},
    steps::consent,
};

/// `ctl image …`
pub(in crate::commands) async fn image(
    context: &Context,
    command: &ImageCommand,
    output: &Output,
) -> Result<()> {
    if matches!(command, ImageCommand::Prune(ImagePrune { yes: true, .. })) {
        consent::operator(context, "image prune --yes")?;
    }
    let uses = uses(&context.config, &context.hosts().await?);
    let mut images = Vec::new();
    for provider in context.providers() {
        images.extend(provider.images().await?);
    }
    match command {
        ImageCommand::List => render::list(output, &images, &uses, jiff::Timestamp::now()),
        ImageCommand::Prune(args) => prune(context, args, &images, &uses, output).await,
    }
}

/// Lists unused images; with `--yes`, removes them.
async fn prune(
    context: &Context,
    args: &ImagePrune,
    images: &[Image],
    uses: &Uses,
    output: &Output,
) -> Result<()> {
    let plan: Vec<&Image> =
        superfluous(images, uses, args.keep, jiff::Timestamp::now().as_second()).collect();
    for image in &plan {
        render::superfluous(output, image)?;
    }
    if plan.is_empty() || !args.yes {
        output.note(if plan.is_empty() {
            "nothing to remove"
        } else {
            "nothing was removed: add --yes to do this"
        });
        return Ok(());
    }
    for image in plan {
        context.provider(image.provider)?.remove_image(&image.id).await?;
        output.note(&format!("removed {}", image.id.0));
    }
    Ok(())
}
