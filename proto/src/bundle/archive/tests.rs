use std::{
    collections::HashMap,
    io::{self, Read, Write},
};

use proptest::prelude::*;

use super::*;
use crate::bundle::Digest;

fn blob(content: &[u8]) -> Blob {
    Blob { digest: Digest::of(content), size: content.len() as u64 }
}

fn packed(contents: &[Vec<u8>]) -> (Vec<Blob>, Vec<u8>) {
    let blobs: Vec<Blob> = contents.iter().map(|content| blob(content)).collect();
    let by_digest: HashMap<Digest, &[u8]> =
        blobs.iter().zip(contents).map(|(blob, content)| (blob.digest, content.as_slice())).collect();
    let stream = pack(&blobs, |blob| Ok(by_digest[&blob.digest]), Vec::new()).expect("packs");
    (blobs, stream)
}

/// The stored blobs, in order.
type Stored = Vec<(Digest, Vec<u8>)>;

/// The blobs stored before the end or the error.
fn unpacked(stream: impl Read, blobs: &[Blob]) -> (Stored, Result<(), UnpackError>) {
    struct Store<'s>(&'s std::cell::RefCell<Stored>);
    impl Write for Store<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().last_mut().expect("created").1.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let stored = std::cell::RefCell::new(Vec::new());
    let result = unpack(stream, blobs, |blob| {
        stored.borrow_mut().push((blob.digest, Vec::new()));
        Ok(Store(&stored))
    });
    (stored.into_inner(), result)
}

fn compress(archive: &[u8]) -> Vec<u8> {
    zstd::encode_all(archive, 3).expect("compresses")
}

/// An archive with these headers and contents.
fn archive(entries: &[(Header, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (header, content) in entries {
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len() + padding(content.len() as u64), 0);
    }
    bytes.extend_from_slice(&END);
    bytes
}

/// The correct header, changed, with a matching checksum.
fn forged(content: &[u8], change: impl FnOnce(&mut Header)) -> Header {
    let mut header = header(&blob(content));
    change(&mut header);
    header.set_cksum();
    header
}

proptest! {
    #[test]
    fn what_was_packed_comes_out(contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..12)) {
        let (blobs, stream) = packed(&contents);
        let (stored, result) = unpacked(stream.as_slice(), &blobs);
        prop_assert!(result.is_ok(), "{:?}", result);
        let expected: Vec<_> = blobs.iter().map(|blob| blob.digest).zip(contents).collect();
        prop_assert_eq!(stored, expected);
    }

    #[test]
    fn damage_never_yields_other_content(
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..6),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let (blobs, mut stream) = packed(&contents);
        let at = at.index(stream.len());
        stream[at] = value;
        let (stored, result) = unpacked(stream.as_slice(), &blobs);
        if result.is_ok() {
            let expected: Vec<_> = blobs.iter().map(|blob| blob.digest).zip(contents).collect();
            prop_assert_eq!(stored, expected);
        }
    }

    #[test]
    fn every_truncation_is_refused(contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..4), at in any::<prop::sample::Index>()) {
        let (blobs, stream) = packed(&contents);
        let (_, result) = unpacked(&stream[..at.index(stream.len())], &blobs);
        prop_assert!(result.is_err());
    }

    #[test]
    fn foreign_bytes_never_panic(stream in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(unpacked(stream.as_slice(), &[blob(b"x")]).1.is_err());
    }
}

#[test]
fn an_ordinary_tar_reads_the_stream() {
    let (blobs, stream) = packed(&[b"one".to_vec(), vec![7; 5000], Vec::new()]);
    let plain = zstd::decode_all(stream.as_slice()).expect("decompresses");
    let mut archive = tar::Archive::new(plain.as_slice());
    let listed: Vec<(String, u64)> = archive
        .entries()
        .expect("an archive")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| (entry.path().expect("a path").display().to_string(), entry.size()))
        .collect();
    assert_eq!(listed, blobs.iter().map(|blob| (blob.digest.to_string(), blob.size)).collect::<Vec<_>>());
}

#[test]
fn malicious_headers_are_refused_by_name() {
    let content = b"class x {}".as_slice();
    let size = |value: &'static [u8; 12]| move |header: &mut Header| header.as_old_mut().size = *value;
    let kind = |kind: EntryType| move |header: &mut Header| header.set_entry_type(kind);
    let name = |name: &'static str| {
        move |header: &mut Header| header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes())
    };
    let cases: Vec<(&str, Header)> = vec![
        ("name", forged(content, name("../../../../etc/cron.d/x"))),
        ("name", forged(content, name("/etc/passwd"))),
        ("name", forged(content, name("\0"))),
        ("type", forged(content, kind(EntryType::Link))),
        ("type", forged(content, kind(EntryType::Symlink))),
        ("type", forged(content, kind(EntryType::Char))),
        ("type", forged(content, kind(EntryType::Block))),
        ("type", forged(content, kind(EntryType::Fifo))),
        ("type", forged(content, kind(EntryType::Directory))),
        ("type", forged(content, kind(EntryType::Continuous))),
        ("type", forged(content, kind(EntryType::XHeader))),
        ("type", forged(content, kind(EntryType::XGlobalHeader))),
        ("type", forged(content, kind(EntryType::GNULongName))),
        ("type", forged(content, kind(EntryType::GNULongLink))),
        ("type", forged(content, kind(EntryType::GNUSparse))),
        ("type", forged(content, |header| header.as_mut_bytes()[156] = 0)),
        ("mode", forged(content, |header| header.set_mode(0o4755))),
        ("mode", forged(content, |header| header.set_mode(0o2644))),
        ("mode", forged(content, |header| header.set_mode(0o1644))),
        ("owner", forged(content, |header| header.set_uid(1000))),
        ("group", forged(content, |header| header.set_gid(1000))),
        ("time", forged(content, |header| header.set_mtime(1))),
        ("size", forged(content, |header| header.set_size(0))),
        ("size", forged(content, |header| header.set_size(11))),
        ("size", forged(content, size(b"\x80\0\0\0\0\0\0\0\0\0\0\x0a"))),
        ("size", forged(content, size(b"         12\0"))),
        ("size", forged(content, size(b"00000000012 "))),
        ("size", forged(content, size(b"77777777777\0"))),
        ("link target", forged(content, |header| header.set_link_name("/etc/shadow").expect("fits"))),
        ("format", forged(content, |header| header.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0"))),
        ("rest", forged(content, |header| header.as_mut_bytes()[265] = b'x')),
        ("rest", forged(content, |header| header.as_mut_bytes()[345] = b'x')),
        ("checksum", {
            let mut header = header(&blob(content));
            header.as_mut_bytes()[150] ^= 1;
            header
        }),
    ];
    for (expected, header) in cases {
        let stream = compress(&archive(&[(header, content)]));
        let (stored, result) = unpacked(stream.as_slice(), &[blob(content)]);
        assert!(stored.is_empty(), "nothing may be created for a {expected}");
        match result {
            Err(UnpackError::Header { field, .. }) => {
                // The checksum precedes some fields, so it may be the first to differ.
                assert!(field == expected || field == "checksum", "{field} instead of {expected}");
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn malicious_streams_are_refused() {
    let (one, two) = (b"one".as_slice(), b"twice".as_slice());
    let entry = |content| (header(&blob(content)), content);
    let announced = [blob(one), blob(two)];
    let good = archive(&[entry(one), entry(two)]);
    let refused = |stream: &[u8]| unpacked(stream, &announced).1.expect_err("refused");

    let wrong_hash = archive(&[(header(&blob(one)), b"eno"), entry(two)]);
    assert!(
        matches!(refused(&compress(&wrong_hash)), UnpackError::WrongHash { digest } if digest == blob(one).digest)
    );
    let wrong_order = archive(&[entry(two), entry(one)]);
    assert!(matches!(refused(&compress(&wrong_order)), UnpackError::Header { field: "name", .. }));
    let twice = archive(&[entry(one), entry(one)]);
    assert!(matches!(refused(&compress(&twice)), UnpackError::Header { field: "name", .. }));
    let more = archive(&[entry(one), entry(two), entry(b"three")]);
    assert!(matches!(refused(&compress(&more)), UnpackError::Trailing));
    let fewer = archive(&[entry(one)]);
    assert!(matches!(refused(&compress(&fewer)), UnpackError::Header { .. }));
    let mut dirty_padding = good.clone();
    dirty_padding[BLOCK + 3] = 1;
    assert!(matches!(refused(&compress(&dirty_padding)), UnpackError::Padding { .. }));
    let long_end = [good.as_slice(), &[0; BLOCK]].concat();
    assert!(matches!(refused(&compress(&long_end)), UnpackError::Trailing));
    let no_end = &good[..good.len() - BLOCK];
    assert!(matches!(refused(&compress(no_end)), UnpackError::NoEnd));
    let second_frame = [compress(&good), compress(b"")].concat();
    assert!(matches!(refused(&second_frame), UnpackError::Trailing));
    let appended = [compress(&good), b"x".to_vec()].concat();
    assert!(matches!(refused(&appended), UnpackError::Trailing));
    assert!(matches!(refused(&good), UnpackError::Read(_)), "not compressed at all");
    assert!(matches!(refused(b""), UnpackError::Truncated { .. }));
}

#[test]
fn bombs_are_cut_at_what_was_announced() {
    let announced = [blob(b"small")];
    let bomb = zstd::encode_all(io::repeat(0).take(256 << 20), 3).expect("compresses");
    let (stored, result) = unpacked(bomb.as_slice(), &announced);
    assert!(matches!(result, Err(UnpackError::Header { .. })) && stored.is_empty());

    let after_the_blob = archive(&[(header(&announced[0]), b"small")]);
    let tail = zstd::encode_all(after_the_blob.as_slice().chain(io::repeat(0).take(256 << 20)), 3)
        .expect("compresses");
    assert!(matches!(unpacked(tail.as_slice(), &announced).1, Err(UnpackError::Trailing)));
}

#[test]
fn a_window_larger_than_allowed_is_refused() {
    let content = b"small".as_slice();
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("an encoder");
    encoder.window_log(27).expect("a window log");
    encoder.write_all(&archive(&[(header(&blob(content)), content)])).expect("compresses");
    let stream = encoder.finish().expect("compresses");
    assert!(matches!(unpacked(stream.as_slice(), &[blob(content)]).1, Err(UnpackError::Read(_))));
}

/// A frame header, then endless blocks of type raw and size 0 (RFC 8878, §3.1.1.2): no output, no end.
#[test]
fn empty_blocks_without_end_are_cut_short() {
    let header: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    let stream = header.chain(io::repeat(0));
    assert!(matches!(unpacked(stream, &[blob(b"small")]).1, Err(UnpackError::Truncated { .. })));
}

#[test]
fn a_file_that_changes_while_it_is_sent_stops_the_stream() {
    let was = blob(b"before");
    for now in [b"after!".as_slice(), b"short", b"much longer"] {
        let result = pack(&[was], |_| Ok(now), Vec::new());
        assert!(matches!(result, Err(PackError::Changed { digest }) if digest == was.digest), "{now:?}");
    }
}
