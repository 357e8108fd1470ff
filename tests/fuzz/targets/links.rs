//! A link that a manifest accepts ends inside the tree, says the kernel; one that dangles or loops does for it too.
#![no_main]

use std::{collections::BTreeMap, fs, os::unix::fs::symlink, path::Path};

use libfuzzer_sys::fuzz_target;
use proto::bundle::{Blob, Digest, Entry, Kind, Manifest, ManifestError, link::LinkProblem};

/// Few names, so that links meet.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const STEPS: [&str; 8] = ["..", "..", "a", "b", "c", "d", "a", "b"];

/// One entry from every four bytes: a path of up to three names, and what is there.
fn tree(data: &[u8]) -> BTreeMap<String, Kind> {
    let mut tree = BTreeMap::new();
    let blob = Blob { digest: Digest::of(b""), size: 0 };
    for &[place, kind, first, second] in data.as_chunks().0.iter().take(12) {
        let names = (0..=place >> 6).take(3).map(|at| NAMES[usize::from(place >> (2 * at)) & 3]);
        let names: Vec<_> = names.collect();
        let steps = u16::from_le_bytes([first, second]);
        let target = (0..=kind & 3).map(|at| STEPS[usize::from(steps >> (3 * at)) & 7]);
        let kind = match kind >> 6 {
            0 => Kind::File { executable: false, blob },
            1 => Kind::Link { target: ".".to_owned() },
            _ => Kind::Link { target: target.collect::<Vec<_>>().join("/") },
        };
        let parents = (1..names.len()).map(|length| names[..length].join("/"));
        parents.for_each(|parent| drop(tree.insert(parent, Kind::Directory)));
        tree.entry(names.join("/")).or_insert(kind);
    }
    // A later entry may have made a directory of what was a link, never the other way round.
    tree
}

fn create(root: &Path, tree: &BTreeMap<String, Kind>) {
    for (path, kind) in tree {
        let path = root.join(path);
        match kind {
            Kind::Directory => fs::create_dir(path),
            Kind::File { .. } => fs::write(path, ""),
            Kind::Link { target } => symlink(target, path),
        }
        .expect("an empty directory takes it");
    }
}

fuzz_target!(|data: &[u8]| {
    let tree = tree(data);
    let entries = tree.iter().map(|(path, kind)| Entry { path: path.clone(), kind: kind.clone() });
    let manifest = Manifest::new(entries.collect());
    let refused = match &manifest {
        Ok(_) => None,
        Err(ManifestError::Link { path, problem, .. }) => Some((path, problem)),
        Err(error) => panic!("the tree is well-formed: {error}"),
    };
    let root = tempfile::tempdir_in("/dev/shm").expect("memory");
    create(root.path(), &tree);
    match refused {
        None => {
            for path in tree.keys() {
                let end = root.path().join(path).canonicalize().expect("every link leads somewhere");
                assert!(end.starts_with(root.path()), "{path} leads to {}", end.display());
            }
        }
        Some((path, LinkProblem::Dangling | LinkProblem::Loop)) => {
            assert!(fs::metadata(root.path().join(path)).is_err(), "{path} leads somewhere in {tree:?}");
        }
        Some((path, LinkProblem::Outside)) => {
            let end = root.path().join(path).canonicalize();
            let inside = end.is_ok_and(|end| end.starts_with(root.path()));
            assert!(!inside, "{path} stays inside in {tree:?}");
        }
        Some((path, problem)) => panic!("{path}: {problem}"),
    }
});
