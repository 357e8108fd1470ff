//! The sender: packs blobs into a stream.

use std::io::{self, Read, Write};

use zstd::stream::write::Encoder;

use super::{BLOCK, BUFFER, END, archive_size, header, padding};
use crate::bundle::{Blob, Digest, Hasher};

/// Compresses Puppet code to a fifth at several hundred MB/s; higher levels cost more time than they save.
const LEVEL: i32 = 3;

/// Why the stream could not be created.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A blob could not be opened or read.
    #[error("cannot read blob {digest}: {source}")]
    Read {
        /// Digest of the blob.
        digest: Digest,
        /// The error of the read.
        source: io::Error,
    },
    /// A blob's content differs from what was hashed.
    #[error("blob {digest} changed after it was hashed")]
    Changed {
        /// The digest from before the change.
        digest: Digest,
    },
    /// The receiver closed or refused the stream.
    #[error("cannot write the stream: {0}")]
    Write(#[source] io::Error),
}

/// Writes `blobs` in the given order to `out`, each read from `open`'s result, flushes `out` and returns it.
///
/// # Errors
/// See [`PackError`]. After an error, `out` does not contain a readable stream.
pub fn pack<W: Write, R: Read>(
    blobs: &[Blob],
    mut open: impl FnMut(&Blob) -> io::Result<R>,
    out: W,
) -> Result<W, PackError> {
    let mut encoder = Encoder::new(out, LEVEL).map_err(PackError::Write)?;
    encoder.set_pledged_src_size(Some(archive_size(blobs))).map_err(PackError::Write)?;
    let mut buffer = vec![0; BUFFER];
    for blob in blobs {
        encoder.write_all(header(blob).as_bytes()).map_err(PackError::Write)?;
        let content = open(blob).map_err(|source| PackError::Read { digest: blob.digest, source })?;
        copy(blob, content, &mut encoder, &mut buffer)?;
        encoder.write_all(&[0; BLOCK][..padding(blob.size)]).map_err(PackError::Write)?;
    }
    encoder.write_all(&END).map_err(PackError::Write)?;
    let mut out = encoder.finish().map_err(PackError::Write)?;
    out.flush().map_err(PackError::Write)?;
    Ok(out)
}

/// Copies one blob, never more than its announced size, and checks that it is unchanged.
fn copy(blob: &Blob, content: impl Read, out: &mut impl Write, buffer: &mut [u8]) -> Result<(), PackError> {
    let digest = blob.digest;
    let mut content = content.take(blob.size.saturating_add(1));
    let mut hasher = Hasher::new();
    let mut copied = 0;
    loop {
        let length = match content.read(buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(PackError::Read { digest, source }),
        };
        copied += length as u64;
        if copied > blob.size {
            return Err(PackError::Changed { digest });
        }
        hasher.update(&buffer[..length]);
        out.write_all(&buffer[..length]).map_err(PackError::Write)?;
    }
    if copied == blob.size && hasher.finish() == digest { Ok(()) } else { Err(PackError::Changed { digest }) }
}
