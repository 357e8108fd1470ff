//! An upload is taken if and only if it is the one archive that was announced, and never writes more than that.
#![no_main]

use std::{cell::Cell, io, sync::LazyLock};

use fuzz::foreign;
use libfuzzer_sys::fuzz_target;
use proto::bundle::{Blob, Digest, UnpackError, pack, unpack};

const CONTENTS: [&[u8]; 4] = [b"node default {}\n", b"", &[7; 512], &[b'x'; 1500]];

static BLOBS: LazyLock<Vec<Blob>> = LazyLock::new(|| {
    CONTENTS.iter().map(|bytes| Blob { digest: Digest::of(bytes), size: bytes.len() as u64 }).collect()
});
static STREAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let content = |blob: &Blob| {
        let found = BLOBS.iter().position(|known| known == blob);
        Ok(CONTENTS[found.expect("one of ours")])
    };
    pack(&BLOBS, content, Vec::new()).expect("memory takes it")
});
static ARCHIVE: LazyLock<Vec<u8>> = LazyLock::new(|| zstd::decode_all(STREAM.as_slice()).expect("ours"));
static STREAMS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| vec![STREAM.clone()]);
static ARCHIVES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| vec![ARCHIVE.clone()]);

struct Sink<'a>(&'a Cell<u64>);

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.set(self.0.get() + bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn receive(stream: &[u8]) -> Result<(), UnpackError> {
    let written = Cell::new(0);
    let result = unpack(stream, &BLOBS, |_| Ok(Sink(&written)));
    let announced = BLOBS.iter().map(|blob| blob.size).sum();
    assert!(written.get() <= announced && (result.is_err() || written.get() == announced));
    result
}

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        // The compressed bytes are foreign,
        Some((mode, data)) if mode & 1 == 0 => {
            let stream = foreign(&STREAMS, data);
            if receive(&stream).is_ok() {
                assert_eq!(zstd::decode_all(stream.as_slice()).expect("was just read"), *ARCHIVE);
            }
        }
        // or the archive within them.
        Some((_, data)) => {
            let archive = foreign(&ARCHIVES, data);
            let stream = zstd::encode_all(archive.as_slice(), 1).expect("memory takes it");
            assert_eq!(receive(&stream).is_ok(), archive == *ARCHIVE);
        }
        None => {}
    }
});
