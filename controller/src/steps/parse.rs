//! Does the Puppet code parse? Asked of the very Puppet that is in the image, before a host is launched.

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

/// Runs `puppet parser validate` over the bundle's manifests in the image. An answer is kept by digest and
/// image, so that an unchanged bundle is not asked about again.
///
/// Where the hosts' image is not on this machine, the newest that is here answers; there may be none.
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
        .map_err(|error| Error::invalid(format!("checking the Puppet code broke off: {error}")))??;
    // Only saves time: where it cannot be kept, the question is asked again.
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
        Error::invalid(format!("puppet parser validate ended with {}: {}", output.status, said.trim()))
    }))
}

/// A copy of these files in which another user may look, whatever the umask: root of the image is nobody here.
/// Manifests hold no secrets; data, which may, is not among them.
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

/// Makes the directories that `path` is in, each open to all.
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
