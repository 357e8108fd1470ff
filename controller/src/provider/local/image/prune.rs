//! Removes unused images after a bake, because each new agent adds an image.

use std::{
    collections::BTreeSet,
    fs,
    iter::successors,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::layers;
use crate::{
    error::Result,
    provider::{
        ImageId,
        local::{
            failure::Doing,
            namespace::{tree::remove_tree, userns::IdMap},
            record::Record,
            state::{StateDir, lock},
        },
    },
};

/// Keep this many of the newest images, used or not, so that switching back to yesterday's agent costs nothing.
const NEWEST: usize = 3;
/// File extension of images and bases that are being removed; valid names have none.
const DOOMED: &str = "old";

/// Contents of the directories of images and bases.
#[derive(Debug, Default)]
struct Found {
    /// Name and time of baking.
    images: Vec<(String, SystemTime)>,
    bases: Vec<String>,
}

/// Names to remove.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    images: Vec<String>,
    bases: Vec<String>,
}

/// Removes leftovers of interrupted bakes, and unused images and bases. `fresh` has just been baked. The caller holds
/// the bake lock.
pub(super) fn prune(
    state: &StateDir,
    ctl: &Path,
    map: &IdMap,
    fresh: &ImageId,
    progress: &dyn Fn(&str),
) -> Result<()> {
    for directory in [state.images(), state.bases()] {
        for (name, _) in list(&directory)?.iter().filter(|(name, _)| !is_whole(name)) {
            remove_tree(ctl, map, &directory.join(name))?;
        }
    }
    for tree in put_out_of_reach(state, fresh)? {
        progress(&format!("removing {}: no host uses it", tree.with_extension("").display()));
        remove_tree(ctl, map, &tree)?;
    }
    Ok(())
}

/// Whether an entry is complete. A bake renames it last and a prune renames it first, so leftovers have an extension.
fn is_whole(name: &str) -> bool {
    !name.contains('.')
}

/// Renames what is to be removed, while the lock keeps others from launching from it.
fn put_out_of_reach(state: &StateDir, fresh: &ImageId) -> Result<Vec<PathBuf>> {
    let _turn = lock(&state.allocation_lock())?;
    let mut used: BTreeSet<String> = Record::all(state)?.into_iter().map(|record| record.image.0).collect();
    used.insert(fresh.0.clone());
    let bases = list(&state.bases())?.into_iter().map(|(name, _)| name).collect();
    let plan = plan(Found { images: list(&state.images())?, bases }, &used);
    let images = plan.images.into_iter().map(|name| state.images().join(name));
    let bases = plan.bases.into_iter().map(|name| state.bases().join(name));
    images.chain(bases).map(|path| doom(&path)).collect()
}

/// Renames a tree, so that it is no longer used, and the next bake removes it if this process does not.
pub(super) fn doom(path: &Path) -> Result<PathBuf> {
    let doomed = path.with_extension(DOOMED);
    fs::rename(path, &doomed).doing(|| format!("cannot rename {}", path.display()))?;
    Ok(doomed)
}

fn list(directory: &Path) -> Result<Vec<(String, SystemTime)>> {
    let what = || format!("cannot list {}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).doing(what)? {
        let entry = entry.doing(what)?;
        let baked = entry.metadata().and_then(|metadata| metadata.modified()).doing(what)?;
        found.extend(entry.file_name().into_string().ok().map(|name| (name, baked)));
    }
    Ok(found)
}

/// Images that are neither used nor among the newest, and bases that no remaining image needs.
fn plan(mut found: Found, used: &BTreeSet<String>) -> Plan {
    found.images.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let newest = found.images.iter().take(NEWEST).map(|(name, _)| name.as_str());
    // An image needs all images below it.
    let needed: BTreeSet<String> = used
        .iter()
        .map(String::as_str)
        .chain(newest)
        .flat_map(|name| successors(Some(name), |name| layers::below(name)))
        .map(str::to_owned)
        .collect();
    let (kept, images): (Vec<String>, Vec<String>) =
        found.images.into_iter().map(|(name, _)| name).partition(|name| needed.contains(name));
    let bases_needed: BTreeSet<&str> = kept.iter().filter_map(|name| Some(name.split_once('-')?.0)).collect();
    let bases = found.bases.into_iter().filter(|base| !bases_needed.contains(base.as_str())).collect();
    Plan { images, bases }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn found(images: &[&str], bases: &[&str]) -> Found {
        let baked = |age: usize| SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age as u64);
        Found {
            images: images.iter().enumerate().map(|(age, name)| ((*name).to_owned(), baked(age))).collect(),
            bases: bases.iter().map(ToString::to_string).collect(),
        }
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_newest_three_and_all_used_stay() {
        let mut here = found(&["b-1", "b-2", "b-3", "b-4", "a-5", "a-6"], &["a", "b", "c"]);
        here.images.reverse();
        let plan = plan(here, &set(&["a-6"]));
        assert_eq!(plan, Plan { images: vec!["b-4".into(), "a-5".into()], bases: vec!["c".into()] });
    }

    #[test]
    fn layers_below_a_used_image_stay() {
        let here = found(&["b-1", "b-2", "b-3", "a-4-x-y", "a-4-x", "a-4", "a-4-z"], &["a", "b"]);
        let plan = plan(here, &set(&["a-4-x-y"]));
        assert_eq!(plan, Plan { images: vec!["a-4-z".into()], bases: vec![] });
    }

    #[test]
    fn a_base_goes_with_its_last_image() {
        let plan = plan(found(&["b-1", "b-2", "b-3", "a-4"], &["a", "b"]), &set(&[]));
        assert_eq!(plan, Plan { images: vec!["a-4".into()], bases: vec!["a".into()] });
    }

    #[test]
    fn nothing_is_removed_from_nothing() {
        assert_eq!(plan(Found::default(), &set(&["gone"])), Plan::default());
    }
}
