//! `ctl bake`: builds the image that hosts boot from, unless it exists.

use crate::{
    cli::Bake,
    config::RoleConfig,
    context::Context,
    error::Result,
    pool::images::{superfluous, uses},
    render::{Output, image as render},
    steps::consent,
};

/// `ctl bake`: finds or builds the image, then removes unused images beyond `--keep`.
pub(in crate::commands) async fn bake(context: &Context, args: &Bake, output: &Output) -> Result<()> {
    let role = match &args.role {
        Some(role) => context.config.role(role)?.clone(),
        None => RoleConfig::default(),
    };
    consent::operator(context, "bake")?;
    if args.base {
        let notes = output.notes();
        return context.local.bake_base(&|line| notes.note(line)).await;
    }
    let (provider, notes) = (context.provider(context.kind_for(&role))?, output.notes());
    let baked = provider.bake(&|line| notes.note(line)).await?;
    let images = provider.images().await?;
    let uses = uses(&context.config, &context.hosts().await?);
    for image in superfluous(&images, &uses, args.keep, jiff::Timestamp::now().as_second())
        .filter(|image| image.id != baked)
    {
        provider.remove_image(&image.id).await?;
        notes.note(&format!("removed unused image {}", image.id.0));
    }
    render::baked(output, &baked)
}
