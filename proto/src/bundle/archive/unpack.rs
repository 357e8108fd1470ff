//! The receiver: unpacks an untrusted stream, as root.

use std::io::{self, BufReader, Read, Write};

use zstd::stream::read::Decoder;

use super::{BLOCK, BUFFER, END, WINDOW_LOG_MAX, header, input_limit, padding};
use crate::bundle::{Blob, Digest, Hasher};

/// Why a stream was refused.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream is not zstd, is damaged, has a window above 8 MiB, or the connection broke.
    #[error("cannot read the upload: {0}")]
    Read(#[source] io::Error),
    /// The stream ends before the last announced blob.
    #[error("the upload ends before blob {digest} is complete")]
    Truncated {
        /// Digest of the incomplete or missing blob.
        digest: Digest,
    },
    /// The next entry is not the next announced blob.
    #[error("expected blob {expected}, but the {field} of the next entry differs")]
    Header {
        /// Digest of the expected blob.
        expected: Digest,
        /// The first header field that differs.
        field: &'static str,
    },
    /// The bytes after a blob are not zeros.
    #[error("the padding after blob {digest} is not empty")]
    Padding {
        /// Digest of the blob before the padding.
        digest: Digest,
    },
    /// The content does not match the manifest.
    #[error("the content of blob {digest} does not match its digest")]
    WrongHash {
        /// The announced digest.
        digest: Digest,
    },
    /// The stream continues after the last announced blob.
    #[error("the upload continues after the last announced blob")]
    Trailing,
    /// The archive's end marker is missing or incomplete.
    #[error("the upload has no end marker")]
    NoEnd,
    /// The blob could not be stored.
    #[error("cannot store blob {digest}: {source}")]
    Write {
        /// Digest of the blob.
        digest: Digest,
        /// The error of the write.
        source: io::Error,
    },
}

/// Reads exactly `blobs`, in this order, from `reader`, and writes each to `create`'s result. A blob with wrong
/// content is detected only after it was written: on an error, the caller must discard everything.
///
/// # Errors
/// See [`UnpackError`].
pub fn unpack<R: Read, W: Write>(
    reader: R,
    blobs: &[Blob],
    mut create: impl FnMut(&Blob) -> io::Result<W>,
) -> Result<(), UnpackError> {
    let limited = BufReader::with_capacity(BUFFER, reader.take(input_limit(blobs)));
    let mut decoder = Decoder::with_buffer(limited).map_err(UnpackError::Read)?.single_frame();
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(UnpackError::Read)?;
    let mut buffer = vec![0; BUFFER];
    for blob in blobs {
        expect_header(blob, &mut decoder)?;
        let out = create(blob).map_err(|source| UnpackError::Write { digest: blob.digest, source })?;
        copy(blob, &mut decoder, out, &mut buffer)?;
        expect_padding(blob, &mut decoder)?;
    }
    expect_end(decoder)
}

fn expect_header(blob: &Blob, input: &mut impl Read) -> Result<(), UnpackError> {
    let mut found = [0; BLOCK];
    fill(input, &mut found, UnpackError::Truncated { digest: blob.digest })?;
    match differing_field(header(blob).as_bytes(), &found) {
        None => Ok(()),
        Some(field) => Err(UnpackError::Header { expected: blob.digest, field }),
    }
}

/// Name of the first field that differs, in the layout of `pax(1)`, "ustar Interchange Format".
fn differing_field(expected: &[u8; BLOCK], found: &[u8; BLOCK]) -> Option<&'static str> {
    const FIELDS: [(usize, &str); 10] = [
        (100, "name"),
        (108, "mode"),
        (116, "owner"),
        (124, "group"),
        (136, "size"),
        (148, "time"),
        (156, "checksum"),
        (157, "type"),
        (257, "link target"),
        (265, "format"),
    ];
    // The type first: a different type explains more than a different name.
    if expected[156] != found[156] {
        return Some("type");
    }
    let at = expected.iter().zip(found).position(|(a, b)| a != b)?;
    Some(FIELDS.iter().find(|(end, _)| at < *end).map_or("rest", |(_, name)| name))
}

fn copy(
    blob: &Blob,
    input: &mut impl Read,
    mut out: impl Write,
    buffer: &mut [u8],
) -> Result<(), UnpackError> {
    let digest = blob.digest;
    let mut hasher = Hasher::new();
    let mut left = blob.size;
    while left > 0 {
        let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        fill(input, &mut buffer[..length], UnpackError::Truncated { digest })?;
        hasher.update(&buffer[..length]);
        out.write_all(&buffer[..length]).map_err(|source| UnpackError::Write { digest, source })?;
        left -= length as u64;
    }
    if hasher.finish() != digest {
        return Err(UnpackError::WrongHash { digest });
    }
    out.flush().map_err(|source| UnpackError::Write { digest, source })
}

fn expect_padding(blob: &Blob, input: &mut impl Read) -> Result<(), UnpackError> {
    let mut block = [0; BLOCK];
    let zeros = &mut block[..padding(blob.size)];
    fill(input, zeros, UnpackError::Truncated { digest: blob.digest })?;
    if zeros.iter().all(|byte| *byte == 0) {
        Ok(())
    } else {
        Err(UnpackError::Padding { digest: blob.digest })
    }
}

/// Expects two blocks of zeros, the end of the frame, and the end of the input.
fn expect_end<R: Read>(mut decoder: Decoder<'_, BufReader<io::Take<R>>>) -> Result<(), UnpackError> {
    let mut end = [1; END.len()];
    fill(&mut decoder, &mut end, UnpackError::NoEnd)?;
    if end != END || decoder.read(&mut [0]).map_err(UnpackError::Read)? != 0 {
        return Err(UnpackError::Trailing);
    }
    let mut rest = decoder.finish();
    if rest.read(&mut [0]).map_err(UnpackError::Read)? != 0 || rest.get_ref().limit() == 0 {
        return Err(UnpackError::Trailing);
    }
    Ok(())
}

/// Fills `buffer`; returns `at_end` if the stream ends before. zstd also reports an incomplete frame as an unexpected
/// end.
fn fill(input: &mut impl Read, buffer: &mut [u8], at_end: UnpackError) -> Result<(), UnpackError> {
    input.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => at_end,
        _ => UnpackError::Read(error),
    })
}
