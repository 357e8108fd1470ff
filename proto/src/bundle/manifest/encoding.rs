//! Encodes and decodes manifests.

use super::{Blob, Digest, Entry, Kind, MAX_ENTRIES, Manifest, ManifestError, PathProblem};

/// The version of the format that this build writes and reads.
pub const VERSION: u16 = 1;

const MAGIC: &[u8; 8] = b"magpie-b";
const DIRECTORY: u8 = 0;
const FILE: u8 = 1;
const EXECUTABLE: u8 = 2;
const LINK: u8 = 3;

/// Minimum size of an entry, in bytes: kind, length, one byte of path.
const MIN_ENTRY: usize = 4;

impl Manifest {
    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.entries.len() * 96);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        let count = u32::try_from(self.entries.len()).expect("at most MAX_ENTRIES");
        out.extend_from_slice(&count.to_le_bytes());
        for Entry { path, kind } in &self.entries {
            match kind {
                Kind::Directory => put_head(&mut out, DIRECTORY, path),
                Kind::File { executable, blob } => {
                    put_head(&mut out, if *executable { EXECUTABLE } else { FILE }, path);
                    out.extend_from_slice(&blob.size.to_le_bytes());
                    out.extend_from_slice(blob.digest.as_bytes());
                }
                Kind::Link { target } => {
                    put_head(&mut out, LINK, path);
                    put_text(&mut out, target);
                }
            }
        }
        out
    }

    /// Decodes the output of [`Self::encode`], and nothing else.
    ///
    /// # Errors
    /// If the bytes are malformed, or their entries violate a rule.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut input = Input { bytes, entry: 0 };
        if input.bytes.len() < MAGIC.len() || input.take(MAGIC.len())? != MAGIC {
            return Err(ManifestError::NotAManifest);
        }
        let version = u16::from_le_bytes(input.array()?);
        if version != VERSION {
            return Err(ManifestError::Version { found: version });
        }
        let count = u32::from_le_bytes(input.array()?) as usize;
        if count > MAX_ENTRIES {
            return Err(ManifestError::TooManyEntries { found: count });
        }
        // The count must not reserve more memory than the available bytes can fill.
        let mut entries = Vec::with_capacity(count.min(bytes.len() / MIN_ENTRY));
        for entry in 0..count {
            input.entry = entry;
            entries.push(input.entry()?);
        }
        if !input.bytes.is_empty() {
            return Err(ManifestError::Trailing { bytes: input.bytes.len() });
        }
        Self::from_sorted(entries)
    }
}

fn put_head(out: &mut Vec<u8>, kind: u8, path: &str) {
    out.push(kind);
    put_text(out, path);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("paths and targets are at most 1024 bytes");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// The remaining bytes, and the index of their entry.
struct Input<'b> {
    bytes: &'b [u8],
    entry: usize,
}

impl<'b> Input<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], ManifestError> {
        let (taken, rest) =
            self.bytes.split_at_checked(length).ok_or(ManifestError::Truncated { entry: self.entry })?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ManifestError> {
        Ok(self.take(N)?.try_into().expect("take returns what was asked for"))
    }

    fn text(&mut self) -> Result<String, ManifestError> {
        let length = u16::from_le_bytes(self.array()?);
        let bytes = self.take(length.into())?;
        String::from_utf8(bytes.to_vec()).map_err(|error| ManifestError::Path {
            path: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            problem: PathProblem::NotUtf8,
        })
    }

    fn entry(&mut self) -> Result<Entry, ManifestError> {
        let [kind] = self.array()?;
        let path = self.text()?;
        let kind = match kind {
            DIRECTORY => Kind::Directory,
            FILE | EXECUTABLE => {
                let size = u64::from_le_bytes(self.array()?);
                let digest = Digest::from(self.array()?);
                Kind::File { executable: kind == EXECUTABLE, blob: Blob { digest, size } }
            }
            LINK => Kind::Link { target: self.text()? },
            found => return Err(ManifestError::UnknownKind { entry: self.entry, found }),
        };
        Ok(Entry { path, kind })
    }
}
