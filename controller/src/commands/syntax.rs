//! Does the Puppet code parse? Asked of the very Puppet that is in the image, before a host is launched.

use std::{fs, sync::Arc};

use crate::{
    bundle::{Bundle, check},
    context::Context,
    error::{Error, Result},
    provider::ImageId,
};

/// Runs `puppet parser validate` over the bundle's manifests in the image. An answer is kept by digest,
/// so that an unchanged bundle is not asked about again.
pub(super) async fn check(context: &Arc<Context>, bundle: &Arc<Bundle>, image: &ImageId) -> Result<()> {
    let known = context.directory.join(&context.config.fleet.ca).join("checked");
    let marker = known.join(bundle.digest().to_string());
    if marker.exists() {
        return Ok(());
    }
    let (context, checked, image) = (Arc::clone(context), Arc::clone(bundle), image.clone());
    tokio::task::spawn_blocking(move || validate(&context, &checked, &image))
        .await
        .map_err(|error| Error::invalid(format!("checking the Puppet code broke off: {error}")))??;
    let kept = fs::create_dir_all(&known).and_then(|()| fs::write(&marker, ""));
    kept.map_err(|error| Error::invalid(format!("cannot write {}: {error}", marker.display())))
}

fn validate(context: &Context, bundle: &Bundle, image: &ImageId) -> Result<()> {
    let tree =
        tempfile::tempdir().map_err(|error| Error::invalid(format!("no temporary directory: {error}")))?;
    let files = check::puppet_files(bundle);
    for path in &files {
        let Some(from) = bundle.file(path) else { continue };
        let to = tree.path().join(path);
        let copied =
            fs::create_dir_all(to.parent().unwrap_or_else(|| tree.path())).and_then(|()| fs::copy(from, &to));
        copied.map_err(|error| Error::invalid(format!("cannot read {}: {error}", from.display())))?;
    }
    if files.is_empty() {
        return Ok(());
    }
    let argv: Vec<&str> =
        ["puppet", "parser", "validate", "--color=false"].into_iter().chain(files).collect();
    let output = context.provider.run_in_image(image, tree.path(), &argv)?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).replace("/mnt/", "");
    Err(check::parser_errors(bundle, &said).unwrap_or_else(|| {
        Error::invalid(format!("puppet parser validate ended with {}: {}", output.status, said.trim()))
    }))
}
