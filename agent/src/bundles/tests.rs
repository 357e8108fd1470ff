use std::{
    io::{self, Cursor},
    os::unix::fs::{MetadataExt, PermissionsExt},
    time::Duration,
};

use proto::bundle::{Entry, Kind, pack};
use tempfile::TempDir;

use super::*;

/// A small bundle and the content of its blobs.
struct Sample {
    manifest: Manifest,
    contents: HashMap<Digest, Vec<u8>>,
}

impl Sample {
    /// `site.pp` with this text, beside a fixed directory with a script, a copy of it that is not executable, and a link.
    fn with_site(text: &str) -> Self {
        let mut sample =
            Self { manifest: Manifest::new(Vec::new()).expect("empty"), contents: HashMap::new() };
        let entries = vec![
            sample.file("site.pp", text, false),
            Entry { path: "d".to_owned(), kind: Kind::Directory },
            sample.file("d/run.sh", "#!/bin/sh\n", true),
            sample.file("d/text", "#!/bin/sh\n", false),
            sample.file("d/same", "#!/bin/sh\n", true),
            Entry { path: "link".to_owned(), kind: Kind::Link { target: "d/run.sh".to_owned() } },
        ];
        sample.manifest = Manifest::new(entries).expect("a valid tree");
        sample
    }

    fn file(&mut self, path: &str, text: &str, executable: bool) -> Entry {
        let blob = Blob { digest: Digest::of(text.as_bytes()), size: text.len() as u64 };
        self.contents.insert(blob.digest, text.as_bytes().to_vec());
        Entry { path: path.to_owned(), kind: Kind::File { executable, blob } }
    }

    fn digest(&self) -> Digest {
        self.manifest.digest()
    }

    fn stream(&self, blobs: &[Blob]) -> Vec<u8> {
        pack(blobs, |blob| Ok(Cursor::new(&self.contents[&blob.digest])), Vec::new()).expect("packs")
    }

    fn offer(&self, store: &Store) -> Vec<Blob> {
        match store.offer(self.digest(), &self.manifest.encode(), provenance(), at(1)).expect("a good offer")
        {
            Answer::Missing(blobs) => blobs,
            Answer::Present => panic!("already here"),
        }
    }

    fn push(&self, store: &Store, now: SystemTime) {
        let stream = self.stream(&self.offer(store));
        store.receive(self.digest(), stream.as_slice(), now).expect("received");
    }
}

fn provenance() -> Provenance {
    Provenance { commit: "c0ffee".to_owned(), who: "eva@example.org".to_owned(), ..Provenance::default() }
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn store(keep: usize) -> (TempDir, Store) {
    let temp = tempfile::tempdir().expect("a directory");
    let store = Store::open(Paths::new(temp.path()), keep).expect("a store");
    (temp, store)
}

/// Names in `bundles/`, and the number of entries in staging.
fn visible(store: &Store) -> (Vec<Digest>, usize) {
    let mut listed: Vec<Digest> = store.list().expect("listed").into_iter().map(|kept| kept.digest).collect();
    listed.sort();
    (listed, fs::read_dir(store.staging()).expect("staging").count())
}

#[test]
fn a_received_bundle_is_what_was_offered() {
    let (_temp, store) = store(3);
    let sample = Sample::with_site("node default {}");
    assert!(!store.again(&sample.digest(), &provenance(), at(0)).expect("asked"));
    sample.push(&store, at(2));
    let digest = sample.digest();
    assert!(store.has(&digest));
    store.verify(&digest).expect("intact");
    assert_eq!(store.provenance(&digest).expect("stored"), provenance());
    assert_eq!(store.list().expect("listed"), [Kept { digest, used: at(2) }]);
    assert_eq!(visible(&store).1, 0, "staging is empty");

    let tree = store.paths.bundle_tree(&digest.to_string());
    let mode = |path: &str| tree.join(path).metadata().expect("there").permissions().mode() & 0o7777;
    assert_eq!(
        [mode("."), mode("d"), mode("site.pp"), mode("d/text"), mode("d/run.sh"), mode("d/same")],
        [0o755, 0o755, 0o444, 0o444, 0o555, 0o555]
    );
    assert_eq!(fs::read_link(tree.join("link")).expect("a link"), PathBuf::from("d/run.sh"));
    let all = fs::metadata(store.paths.bundles()).expect("there").permissions().mode() & 0o777;
    assert_eq!(all, 0o700, "for root alone");

    let answer = store.offer(digest, &sample.manifest.encode(), provenance(), at(3));
    assert_eq!(answer.expect("again"), Answer::Present);
}

#[test]
fn only_changed_blobs_are_requested_and_the_rest_is_shared() {
    let (_temp, store) = store(3);
    let (old, new) = (Sample::with_site("old"), Sample::with_site("new"));
    old.push(&store, at(1));
    assert_eq!(new.offer(&store), [Blob { digest: Digest::of(b"new"), size: 3 }]);
    new.push(&store, at(2));
    store.verify(&new.digest()).expect("intact");
    let inode = |sample: &Sample| {
        let tree = store.paths.bundle_tree(&sample.digest().to_string());
        tree.join("d/run.sh").metadata().expect("there").ino()
    };
    assert_eq!(inode(&old), inode(&new));
}

/// Returns some bytes and then fails, like a broken connection.
struct Broken<'b>(&'b [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            length => Ok(length),
        }
    }
}

#[test]
fn an_upload_interrupted_anywhere_leaves_nothing() {
    let (_temp, store) = store(3);
    let sample = Sample::with_site("node default {}");
    let stream = sample.stream(&sample.offer(&store));
    for length in 0..stream.len() {
        sample.offer(&store);
        let part = &stream[..length];
        let broken = store.receive(sample.digest(), Broken(part), at(1));
        assert!(matches!(broken, Err(Error::Upload(_))), "{length} bytes: {broken:?}");
        assert_eq!(visible(&store), (Vec::new(), 0), "{length} bytes");
    }
    sample.push(&store, at(1));
    store.verify(&sample.digest()).expect("intact");
}

#[test]
fn remains_of_a_kill_in_staging_are_removed_at_the_start() {
    let (temp, store) = store(3);
    let sample = Sample::with_site("x");
    let half = Staging::create(&store.staging(), &sample.digest()).expect("staging");
    half.write_head(&sample.manifest, &provenance()).expect("written");
    std::mem::forget(half);
    assert_eq!(visible(&store), (Vec::new(), 1));
    let store = Store::open(Paths::new(temp.path()), 3).expect("opened again");
    assert_eq!(visible(&store), (Vec::new(), 0));
}

#[test]
fn mismatched_offers_are_refused() {
    let (_temp, store) = store(3);
    let sample = Sample::with_site("x");
    let other = store.offer(Digest::of(b""), &sample.manifest.encode(), provenance(), at(1));
    assert!(matches!(other, Err(Error::OtherManifest { .. })));
    let garbage = store.offer(Digest::of(b"garbage"), b"garbage", provenance(), at(1));
    assert!(matches!(garbage, Err(Error::Manifest(_))));
    let unasked = store.receive(sample.digest(), io::empty(), at(1));
    assert!(matches!(unasked, Err(Error::NotOffered { .. })));
    for number in 0..=OPEN_OFFERS {
        Sample::with_site(&number.to_string()).offer(&store);
    }
    let forgotten = store.receive(Sample::with_site("0").digest(), io::empty(), at(1));
    assert!(matches!(forgotten, Err(Error::NotOffered { .. })), "memory for offers is bounded");
}

#[test]
fn two_uploads_of_one_bundle_both_succeed() {
    let (_temp, store) = store(3);
    let sample = Sample::with_site("node default {}");
    let stream = sample.stream(&sample.offer(&store));
    let offer = store.recall(&sample.digest()).expect("offered");
    std::thread::scope(|scope| {
        for upload in [0, 1].map(|_| scope.spawn(|| store.stage(&offer, stream.as_slice(), at(1)))) {
            upload.join().expect("no panic").expect("received");
        }
    });
    assert_eq!(visible(&store), (vec![sample.digest()], 0));
    store.verify(&sample.digest()).expect("intact");
}

#[test]
fn a_bundle_changed_on_the_host_is_detected_and_never_shared() {
    type Change = fn(&std::path::Path);
    let changes: [(&str, Change); 5] = [
        ("site.pp", |tree| {
            fs::remove_file(tree.join("site.pp")).expect("removed");
            fs::write(tree.join("site.pp"), "evil").expect("written");
            fs::set_permissions(tree.join("site.pp"), PermissionsExt::from_mode(0o444)).expect("set");
        }),
        ("d/evil.pp", |tree| fs::write(tree.join("d/evil.pp"), "extra").expect("written")),
        ("d/text", |tree| fs::remove_file(tree.join("d/text")).expect("removed")),
        ("d/text", |tree| {
            fs::set_permissions(tree.join("d/text"), PermissionsExt::from_mode(0o4555)).expect("set")
        }),
        ("link", |tree| {
            fs::remove_file(tree.join("link")).expect("removed");
            std::os::unix::fs::symlink("/etc/passwd", tree.join("link")).expect("linked");
        }),
    ];
    for (path, change) in changes {
        let (_temp, store) = store(3);
        let sample = Sample::with_site("node default {}");
        sample.push(&store, at(1));
        let tree = store.paths.bundle_tree(&sample.digest().to_string());
        change(&tree);
        let damaged = store.verify(&sample.digest()).expect_err("changed");
        assert!(matches!(&damaged, Error::Damaged { path: found, .. } if found == path), "{path}: {damaged}");
    }
}

#[test]
fn a_damaged_blob_is_not_linked_and_its_bundle_goes() {
    let (_temp, store) = store(3);
    let (old, new) = (Sample::with_site("old"), Sample::with_site("new"));
    old.push(&store, at(1));
    let script = store.paths.bundle_tree(&old.digest().to_string()).join("d/run.sh");
    fs::remove_file(&script).expect("removed");
    fs::write(&script, "#!/bin/no\n").expect("written");
    let stream = new.stream(&new.offer(&store));
    let refused = store.receive(new.digest(), stream.as_slice(), at(2));
    assert!(matches!(refused, Err(Error::Damaged { digest, .. }) if digest == old.digest()));
    assert_eq!(visible(&store), (Vec::new(), 0));
    new.push(&store, at(3));
    store.verify(&new.digest()).expect("intact");
}

#[test]
fn old_bundles_go_and_the_one_in_use_stays() {
    let (_temp, store) = store(2);
    let samples = ["1", "2", "3", "4"].map(Sample::with_site);
    for (second, sample) in (1..).zip(&samples) {
        sample.push(&store, at(second));
    }
    let [one, two, three, four] = samples.each_ref().map(Sample::digest);
    assert_eq!(store.retain(&BTreeSet::from([one])).expect("removed"), [two, three]);
    let mut kept = [one, four];
    kept.sort();
    assert_eq!(visible(&store), (kept.to_vec(), 0));
    store.verify(&one).expect("shared blobs of removed bundles are still here");
    store.touch(&one, at(9)).expect("touched");
    Sample::with_site("5").push(&store, at(10));
    assert_eq!(store.retain(&BTreeSet::new()).expect("removed"), [four], "use counts, not arrival");
}

#[test]
fn a_damaged_bundle_is_found_before_it_is_applied_and_sent_again_whole() {
    let (_temp, store) = store(3);
    let (one, two) = (Sample::with_site("one"), Sample::with_site("two"));
    one.push(&store, at(1));
    two.push(&store, at(2));
    verify(&store.paths, &one.digest()).expect("intact");
    // Both bundles have this file, with one shared inode.
    let script = store.paths.bundle_tree(&one.digest().to_string()).join("d/run.sh");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("opened up");
    fs::write(&script, "#!/bin/sh\nrm -rf /\n").expect("changed");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o555)).expect("closed again");
    let damaged = verify(&store.paths, &one.digest()).expect_err("changed").to_string();
    let (begin, end) = (
        format!("bundle {} was changed on this host: `d/", one.digest()),
        "` does not match its manifest; apply it again to resend it",
    );
    assert!(damaged.starts_with(&begin) && damaged.ends_with(end), "{damaged}");
    assert_eq!(visible(&store), (Vec::new(), 0));
    one.push(&store, at(3));
    verify(&store.paths, &one.digest()).expect("intact again");
    assert!(matches!(verify(&store.paths, &two.digest()), Err(Error::Absent { .. })));
}
