//! A manifest that is read is a valid tree, and has exactly the bytes that were read.
#![no_main]

use std::sync::LazyLock;

use fuzz::foreign;
use libfuzzer_sys::fuzz_target;
use proto::bundle::{Blob, Digest, Entry, Kind, MAX_ENTRIES, MAX_TOTAL_BYTES, Manifest, path};

static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let blob = |text: &str| Blob { digest: Digest::of(text.as_bytes()), size: text.len() as u64 };
    let entry = |path: &str, kind| Entry { path: path.to_owned(), kind };
    let file = |text, executable| Kind::File { executable, blob: blob(text) };
    let tree = Manifest::new(vec![
        entry("manifests", Kind::Directory),
        entry("manifests/site.pp", file("node default {}", false)),
        entry("modules", Kind::Directory),
        entry("modules/a.sh", file("#!/bin/sh", true)),
        entry("modules/b", Kind::Link { target: "../manifests/site.pp".to_owned() }),
    ]);
    let nothing = Manifest::new(Vec::new());
    vec![tree.expect("a tree").encode(), nothing.expect("an empty tree").encode()]
});

fuzz_target!(|data: &[u8]| {
    let bytes = foreign(&EXAMPLES, data);
    let Ok(manifest) = Manifest::decode(&bytes) else { return };
    assert_eq!(manifest.encode(), bytes);
    assert_eq!(manifest.digest(), Digest::of(&bytes));
    assert!(manifest.entries().len() <= MAX_ENTRIES && manifest.total_bytes() <= MAX_TOTAL_BYTES);
    for entry in manifest.entries() {
        assert_eq!(path::check(&entry.path), Ok(()));
        let parent = path::parent(&entry.path).map(|parent| manifest.get(parent).expect("a parent"));
        assert!(parent.is_none_or(|parent| parent.kind == Kind::Directory));
    }
    let mut entries = manifest.entries().to_vec();
    entries.reverse();
    assert_eq!(Manifest::new(entries).as_ref(), Ok(&manifest));
});
