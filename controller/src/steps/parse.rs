//! Parses the Puppet code with the Puppet version in the image, before a host is launched.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use tempfile::TempDir;

use crate::{
    bundle::{Bundle, check},
    context::Context,
    error::{Error, Result},
    pki::files,
    provider::ImageId,
};

/// Runs `puppet parser validate` on the bundle's manifests in the image. A success is remembered by digest and image,
/// so that an unchanged bundle is not parsed again.
///
/// If the hosts' image is not on this machine, uses the newest local image. Without a local image, does nothing.
pub(crate) async fn check(
    context: &Arc<Context>,
    bundle: &Arc<Bundle>,
    image: Option<&ImageId>,
) -> Result<()> {
    let newest = context.local.images()?.pop();
    let Some(image) = image.or(newest.as_ref()) else { return Ok(()) };

    let known = context.directory.join(&context.config.fleet.ca).join("checked");
    let (base, _) = image.0.split_once('-').unwrap_or((&image.0, ""));
    let marker = known.join(format!("{}-{base}", bundle.digest()));
    if marker.exists() {
        return Ok(());
    }
    let (context, checked, image) = (Arc::clone(context), Arc::clone(bundle), image.clone());
    tokio::task::spawn_blocking(move || validate(&context, &checked, &image))
        .await
        .map_err(|error| Error::invalid(format!("the check of the Puppet code crashed: {error}")))??;
    // Only a cache: if the marker cannot be written, the code is parsed again next time.
    if files::directory(&known).is_ok() {
        let _ = fs::write(&marker, "");
    }
    Ok(())
}

fn validate(context: &Context, bundle: &Bundle, image: &ImageId) -> Result<()> {
    let manifests = check::puppet_files(bundle, &context.config.bundle.environment);
    if manifests.is_empty() {
        return Ok(());
    }
    let copy = |error| Error::invalid(format!("cannot copy the manifests to check them: {error}"));
    let tree = stage(bundle, &manifests).map_err(copy)?;
    let argv: Vec<&str> =
        ["puppet", "parser", "validate", "--color=false"].into_iter().chain(manifests).collect();
    let output = context.local.run_in_image(image, tree.path(), &argv)?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).replace("/mnt/", "");
    Err(check::parser_errors(bundle, &said).unwrap_or_else(|| {
        Error::invalid(format!("puppet parser validate failed with {}: {}", output.status, said.trim()))
    }))
}

/// A copy of these files that any user can read, whatever the umask: the image's root user is unprivileged on this
/// machine. Manifests hold no secrets; data files, which may, are not copied.
fn stage(bundle: &Bundle, files: &[&str]) -> io::Result<TempDir> {
    let open = Permissions::from_mode(0o755);
    let tree = tempfile::Builder::new().prefix("magpie-check-").permissions(open.clone()).tempdir()?;
    fs::set_permissions(tree.path(), open)?;
    for path in files {
        let to = tree.path().join(path);
        directories(tree.path(), Path::new(path))?;
        if let Some(from) = bundle.file(path) {
            fs::copy(from, &to)?;
            fs::set_permissions(&to, Permissions::from_mode(0o644))?;
        }
    }
    Ok(tree)
}

/// Creates the parent directories of `path` below `tree`, readable by all users.
fn directories(tree: &Path, path: &Path) -> io::Result<()> {
    let mut parents: Vec<&Path> = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
    parents.reverse();
    for parent in parents {
        let directory = tree.join(parent);
        if !directory.exists() {
            DirBuilder::new().mode(0o755).create(&directory)?;
            fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}
