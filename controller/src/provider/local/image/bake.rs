//! Baking an image: a base root file system, which takes most of a minute and is the same for every agent, and on top
//! of it a small layer with the agent and our settings, which takes no time.

use std::{io::Write, path::Path};

use aws_lc_rs::digest::{Context, SHA256};

use super::{
    agent, base, prune,
    sources::{self, Distribution},
};
use crate::{
    error::Result,
    provider::{
        ImageId, ImageSpec,
        local::{
            failure::Doing,
            namespace::{
                tree::{in_place, unpack_into},
                userns::IdMap,
            },
            state::{StateDir, lock},
        },
        programs::Programs,
    },
};

/// Change this when the same packages must give a different base.
const RECIPE: &str = "1";
/// Packages of every host.
const PACKAGES: [&str; 7] =
    ["systemd-sysv", "dbus", "ca-certificates", "iproute2", "procps", "lsb-release", "puppet-agent"];

/// Finds the image with this content, or bakes it.
pub(crate) fn image(
    state: &StateDir,
    ctl: &Path,
    map: &IdMap,
    spec: &ImageSpec,
    progress: &dyn Fn(&str),
) -> Result<ImageId> {
    let programs = Programs::read(&spec.agent)?;
    let base = Base::of(spec)?;
    let tar = agent::tar(&programs).doing(|| "cannot lay out the agent's layer")?;
    let id = ImageId(format!("{}-{}", base.key, key([tar.as_slice()])));

    let (base_path, image_path) = (state.bases().join(&base.key), state.images().join(&id.0));
    if base_path.exists() && image_path.exists() {
        return Ok(id);
    }
    let _turn = lock(&state.bake_lock())?;
    base.bake(ctl, map, &base_path, progress)?;
    if !image_path.exists() {
        progress(&format!("adding the agent: image {}", id.0));
        in_place(ctl, map, &image_path, |root| {
            unpack_into(ctl, map, root, |mut stream| {
                stream.write_all(&tar).doing(|| "cannot unpack the agent's layer")
            })
        })?;
    }
    if let Err(error) = prune::prune(state, ctl, map, &id, progress) {
        progress(&format!("cannot remove old images: {error}"));
    }
    Ok(id)
}

/// Bakes the base only, unless it exists.
pub(crate) fn base(
    state: &StateDir,
    ctl: &Path,
    map: &IdMap,
    spec: &ImageSpec,
    progress: &dyn Fn(&str),
) -> Result<()> {
    let base = Base::of(spec)?;
    let _turn = lock(&state.bake_lock())?;
    base.bake(ctl, map, &state.bases().join(&base.key), progress)
}

/// Contents of a base.
struct Base {
    distribution: Distribution,
    /// Package names, separated by commas.
    packages: String,
    /// Hash of the contents, and the base's name.
    key: String,
}

impl Base {
    fn of(spec: &ImageSpec) -> Result<Self> {
        let distribution = Distribution::of_this_machine()?;
        let packages = all_packages(spec);
        let key = key([RECIPE, &distribution.id, &distribution.codename, &packages].map(str::as_bytes));
        Ok(Self { distribution, packages, key })
    }

    /// Bakes the base into `path`, unless it exists. The caller holds the bake lock.
    fn bake(&self, ctl: &Path, map: &IdMap, path: &Path, progress: &dyn Fn(&str)) -> Result<()> {
        if path.exists() {
            return Ok(());
        }
        let Self { distribution, packages, .. } = self;
        let sources = sources::read(Path::new("/etc/apt"), distribution)?;
        progress(&format!("baking a {} base with {packages}", distribution.codename));
        in_place(ctl, map, path, |root| {
            base::bake(ctl, map, root, distribution, packages, &sources, progress)
        })
    }
}

fn all_packages(spec: &ImageSpec) -> String {
    let mut packages: Vec<&str> =
        PACKAGES.into_iter().chain(spec.packages.iter().map(String::as_str)).collect();
    packages.sort_unstable();
    packages.dedup();
    packages.join(",")
}

/// 16 hex digits of a hash over `parts`, each with its length, so that different lists have different keys.
fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    hex::encode(&context.finish().as_ref()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_depends_on_where_a_part_ends() {
        assert_ne!(key([b"ab".as_slice(), b"c"]), key([b"a".as_slice(), b"bc"]));
    }
}
