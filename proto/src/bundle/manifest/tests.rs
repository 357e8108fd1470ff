use proptest::{collection::btree_map, prelude::*};

use super::*;

fn blob(content: &str) -> Blob {
    Blob { digest: Digest::of(content.as_bytes()), size: content.len() as u64 }
}

fn directory(path: &str) -> Entry {
    Entry { path: path.to_owned(), kind: Kind::Directory }
}

fn file(path: &str) -> Entry {
    Entry { path: path.to_owned(), kind: Kind::File { executable: false, blob: blob(path) } }
}

fn link(path: &str, target: &str) -> Entry {
    Entry { path: path.to_owned(), kind: Kind::Link { target: target.to_owned() } }
}

/// Files, with all parent directories.
fn tree(files: impl IntoIterator<Item = (String, bool, String)>) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut directories = HashSet::new();
    for (path, executable, content) in files {
        let mut at = path.as_str();
        while let Some(parent) = path::parent(at) {
            if directories.insert(parent.to_owned()) {
                entries.push(directory(parent));
            }
            at = parent;
        }
        entries.push(Entry { path: path.clone(), kind: Kind::File { executable, blob: blob(&content) } });
    }
    entries
}

prop_compose! {
    /// Directories are named `d…` and files `f…`, so that no path is both.
    fn any_tree()(files in btree_map(("(d[a-c]/){0,3}", "f[a-zä-ö.-]{0,3}"), (any::<bool>(), "[a-z]{0,9}"), 0..40)) -> Vec<Entry> {
        tree(files.into_iter().map(|((directory, name), (executable, content))| (format!("{directory}{name}"), executable, content)))
    }
}

proptest! {
    #[test]
    fn encoding_comes_back_the_same_in_any_order_of_entries(entries in any_tree().prop_shuffle_self()) {
        let (sorted, shuffled) = entries;
        let manifest = Manifest::new(sorted).expect("a valid tree");
        prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest.clone()));
        prop_assert_eq!(Manifest::new(shuffled).expect("the same tree").digest(), manifest.digest());
    }

    #[test]
    fn changed_bytes_are_refused_or_are_another_canonical_manifest(
        entries in any_tree(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = Manifest::new(entries).expect("a valid tree").encode();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode(), bytes);
        }
    }

    #[test]
    fn foreign_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = [b"magpie-b\x01\0\x02\0\0\0".as_slice(), &tail].concat();
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode(), bytes);
        }
    }
}

/// Combines a strategy's value with a shuffled copy.
trait PropShuffleSelf: Strategy<Value = Vec<Entry>> + Sized {
    fn prop_shuffle_self(self) -> impl Strategy<Value = (Vec<Entry>, Vec<Entry>)> {
        self.prop_flat_map(|entries| (Just(entries.clone()), Just(entries).prop_shuffle()))
    }
}

impl<S: Strategy<Value = Vec<Entry>>> PropShuffleSelf for S {}

#[test]
fn the_encoding_is_frozen() {
    let entries =
        vec![directory("manifests"), file("manifests/site.pp"), link("site.pp", "manifests/site.pp")];
    let manifest = Manifest::new(entries).expect("a valid tree");
    assert_eq!(manifest.encode().len(), 14 + (3 + 9) + (3 + 17 + 40) + (3 + 7 + 2 + 17));
    assert_eq!(
        manifest.digest().to_string(),
        "d4ca7e07fda5b99887d13d16fdd63438a1f67fb5fb6c94646b0afd5f6abad39b",
        "a new encoding needs a new VERSION"
    );
}

#[test]
fn every_rule_is_named() {
    let long = "n".repeat(256);
    let other_size = Entry {
        path: "b".to_owned(),
        kind: Kind::File { executable: false, blob: Blob { size: 7, ..blob("a") } },
    };
    let huge = Entry {
        path: "huge".to_owned(),
        kind: Kind::File { executable: false, blob: Blob { size: MAX_TOTAL_BYTES + 1, ..blob("huge") } },
    };
    let cases = [
        (vec![file("../a")], "`../a` cannot be in a bundle: it contains `.` or `..`"),
        (vec![file("/a")], "`/a` cannot be in a bundle: it is empty, absolute, or has an empty component"),
        (vec![file("a\n")], "`a\\n` cannot be in a bundle: it has a control character"),
        (vec![file(&long)], "a component is longer than 255 bytes"),
        (vec![file("a"), file("a")], "`a` is in the manifest twice or out of order"),
        (vec![file("README"), file("Readme")], "`README` and `Readme` differ only in case"),
        (vec![file("ä"), file("Ä")], "`Ä` and `ä` differ only in case"),
        (
            vec![file("caf\u{e9}"), file("cafe\u{301}")],
            "`cafe\u{301}` is in the bundle twice, in two forms of Unicode that look the same",
        ),
        (
            vec![file("CAF\u{c9}"), file("cafe\u{301}")],
            "`CAF\u{c9}` is in the bundle twice, in two forms of Unicode that look the same",
        ),
        (
            vec![file("a\u{200b}")],
            "`a\\u{200b}` cannot be in a bundle: it has an invisible character, U+200B",
        ),
        (vec![file("a"), file("a/b")], "`a/b` is not in a directory of the bundle"),
        (vec![file("b/c")], "`b/c` is not in a directory of the bundle"),
        (vec![link("d", "."), file("d/x")], "`d/x` is not in a directory of the bundle"),
        (vec![directory("d")], "`d` is an empty directory"),
        (vec![file("a"), other_size], "`b` has the digest of another file, but a different size"),
        (vec![huge], "the bundle's files are larger than 512 MiB in total"),
    ];
    for (entries, message) in cases {
        let error = Manifest::new(entries).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn links_follow_the_kernels_rules() {
    let with = |path: &str, target: &str| {
        Manifest::new(vec![
            directory("d"),
            directory("d/e"),
            file("d/e/f"),
            link("here", "d/e"),
            link(path, target),
        ])
    };
    for (path, target) in [
        ("x", "d"),
        ("x", "."),
        ("d/x", ".."),
        ("d/e/x", "../../d/e/f"),
        ("x", "here/f"),
        ("x", "here/../e/f"),
    ] {
        assert!(with(path, target).is_ok(), "{path} → {target}");
    }
    for (path, target, problem) in [
        ("x", "..", LinkProblem::Outside),
        ("d/x", "../..", LinkProblem::Outside),
        // As strings, this is `d/f/..`; the kernel follows `here` first and is one level deeper.
        ("d/x", "../here/../../../etc", LinkProblem::Outside),
        ("x", "nowhere", LinkProblem::Dangling),
        ("x", "d/e/f/..", LinkProblem::Dangling),
        ("x", "x", LinkProblem::Loop),
        ("d/x", "../d/x/y", LinkProblem::Loop),
        ("x", "/etc/passwd", LinkProblem::Target(PathProblem::EmptyComponent)),
        ("x", "", LinkProblem::Target(PathProblem::EmptyComponent)),
        ("x", "d/", LinkProblem::Target(PathProblem::EmptyComponent)),
        ("x", "./d", LinkProblem::Target(PathProblem::Dots)),
        ("x", "d\0", LinkProblem::Target(PathProblem::Control)),
    ] {
        let refused = ManifestError::Link { path: path.to_owned(), target: target.to_owned(), problem };
        assert_eq!(with(path, target), Err(refused));
    }
}

#[test]
fn links_that_double_at_each_hop_are_cut_short() {
    let mut entries = vec![directory("d"), file("d/f"), link("l0", "d")];
    for i in 1..30 {
        entries.push(link(&format!("l{i}"), &format!("l{0}/../l{0}", i - 1)));
    }
    let Err(ManifestError::Link { problem, .. }) = Manifest::new(entries) else { panic!("too many hops") };
    assert_eq!(problem, LinkProblem::Loop);
}

#[test]
fn unreadable_bytes_say_why() {
    let good = Manifest::new(vec![file("a")]).expect("a valid tree").encode();
    let change = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let cases = [
        (Vec::new(), ManifestError::NotAManifest),
        (b"PK\x03\x04 something else".to_vec(), ManifestError::NotAManifest),
        (change(8, 2), ManifestError::Version { found: 2 }),
        (change(13, 1), ManifestError::TooManyEntries { found: 0x0100_0001 }),
        (change(10, 2), ManifestError::Truncated { entry: 1 }),
        (change(10, 0), ManifestError::Trailing { bytes: good.len() - 14 }),
        (change(14, 9), ManifestError::UnknownKind { entry: 0, found: 9 }),
        (good[..good.len() - 1].to_vec(), ManifestError::Truncated { entry: 0 }),
        ([good.as_slice(), &[0]].concat(), ManifestError::Trailing { bytes: 1 }),
    ];
    for (bytes, error) in cases {
        assert_eq!(Manifest::decode(&bytes), Err(error));
    }
    let not_utf8 = Manifest::decode(&change(17, 0xff)).expect_err("not UTF-8");
    assert!(matches!(not_utf8, ManifestError::Path { problem: PathProblem::NotUtf8, .. }));
}

#[test]
fn blobs_come_once_and_in_order() {
    let twice =
        |path: &str| Entry { path: path.to_owned(), kind: Kind::File { executable: true, blob: blob("b") } };
    let manifest = Manifest::new(vec![file("c"), twice("b"), twice("d"), file("a")]).expect("a valid tree");
    assert_eq!(manifest.blobs(), [blob("a"), blob("b"), blob("c")]);
    assert_eq!(manifest.total_bytes(), 4);
}
