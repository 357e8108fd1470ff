//! Bundles on this host: offer, upload, verification, retention.
//!
//! ```text
//! bundles/                        0700
//!   <digest>/                     appears complete, by one rename
//!     manifest                    the bytes whose SHA-256 is <digest>
//!     provenance.json             from the latest offer
//!     tree/                       directories 0755, files 0444 or 0555
//!   .staging/<digest>.<random>/   an upload in progress, or a bundle being removed
//! ```
//!
//! An upload is written to staging, flushed with one `syncfs` and then renamed, so a kill or a power failure at any
//! moment leaves a complete bundle or none; whatever is in staging at the agent's start is removed. Blobs that a kept
//! bundle has already are hard-linked from there, after their content is hashed again. Comparing size and times would
//! cost less but prove less: an edited file whose old time was restored would spread from bundle to bundle. Hashing and
//! linking 3,000 files (20 MB) takes 40 ms.
//!
//! The mtime of a bundle's directory is its time of last use, which retention goes by.

mod error;
mod kept;
mod retention;
mod space;
mod staging;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fs,
    io::Read,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use proto::bundle::{Blob, Digest, Manifest, Provenance};

use crate::paths::Paths;

pub(crate) use error::{Error, Result};
pub(crate) use retention::{Kept, plan};

use staging::Staging;

/// Maximum number of offers that await their upload; a controller whose offer was discarded offers again.
const OPEN_OFFERS: usize = 8;

/// All bundles of this host.
#[derive(Debug)]
pub struct Store {
    paths: Paths,
    keep: usize,
    offers: Mutex<VecDeque<Arc<Offer>>>,
}

/// The offer that an upload is checked against.
#[derive(Debug)]
struct Offer {
    digest: Digest,
    manifest: Manifest,
    provenance: Provenance,
    missing: Vec<Blob>,
}

/// The answer to an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The bundle is complete; no upload is needed.
    Present,
    /// These blobs must be uploaded, in this order; may be empty.
    Missing(Vec<Blob>),
}

impl Store {
    /// Opens the store below `paths`, creates it if needed, and removes the remains of interrupted uploads from
    /// staging. `keep` (at least 1) is the number of bundles to keep when a new one arrives.
    ///
    /// # Errors
    /// If the directories cannot be created, read or cleaned.
    pub fn open(paths: Paths, keep: usize) -> Result<Self> {
        let store = Self { paths, keep: keep.max(1), offers: Mutex::default() };
        staging::create_private(&store.paths.bundles())?;
        let staging = store.staging();
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(Error::io("clean", &staging))?;
        }
        staging::create_private(&staging)?;
        Ok(store)
    }

    /// Whether the bundle is here and complete; it was verified on arrival.
    pub fn has(&self, digest: &Digest) -> bool {
        self.paths.bundle(&digest.to_string()).join("manifest").is_file()
    }

    /// Marks a bundle as used at `now`, which protects it from retention.
    ///
    /// # Errors
    /// If the bundle is missing, or its directory cannot be changed.
    pub fn touch(&self, digest: &Digest, now: SystemTime) -> Result<()> {
        let directory = self.paths.bundle(&digest.to_string());
        fs::File::open(&directory)
            .and_then(|open| open.set_modified(now))
            .map_err(Error::io("set the time of", &directory))
    }

    /// Accepts an offer with a complete manifest and returns the blobs to upload.
    ///
    /// # Errors
    /// If the manifest is invalid or does not match `digest`, or there is no space for the missing blobs.
    pub fn offer(
        &self,
        digest: Digest,
        manifest: &[u8],
        provenance: Provenance,
        now: SystemTime,
    ) -> Result<Answer> {
        let found = Digest::of(manifest);
        if found != digest {
            return Err(Error::OtherManifest { named: digest, found });
        }
        let manifest = Manifest::decode(manifest)?;
        if self.has(&digest) {
            self.again(&digest, &provenance, now)?;
            return Ok(Answer::Present);
        }
        let kept = kept::find(&self.paths, &manifest);
        let missing: Vec<Blob> =
            manifest.blobs().into_iter().filter(|blob| !kept.contains_key(&blob.digest)).collect();
        space::require(&self.paths.bundles(), &manifest, &missing)?;
        let answer = Answer::Missing(missing.clone());
        self.remember(Offer { digest, manifest, provenance, missing });
        Ok(answer)
    }

    /// Accepts an offer of a digest alone: `true` if the bundle is here; then updates its provenance and time of use.
    ///
    /// # Errors
    /// If the bundle's directory cannot be written.
    pub fn again(&self, digest: &Digest, provenance: &Provenance, now: SystemTime) -> Result<bool> {
        if !self.has(digest) {
            return Ok(false);
        }
        if self.provenance(digest).ok().as_ref() != Some(provenance) {
            staging::replace_provenance(&self.paths, digest, provenance)?;
        }
        self.touch(digest, now)?;
        Ok(true)
    }

    /// Receives the blobs that the answer to the latest offer of `digest` asked for. On return, the bundle is on the
    /// disk and visible. Two uploads of one digest may run at once; both succeed.
    ///
    /// # Errors
    /// If there was no offer, the stream does not match, or the disk is full; then nothing has changed.
    pub fn receive(&self, digest: Digest, stream: impl Read, now: SystemTime) -> Result<()> {
        if self.has(&digest) {
            return self.touch(&digest, now);
        }
        let offer = self.recall(&digest).ok_or(Error::NotOffered { digest })?;
        let result = self.stage(&offer, stream, now);
        self.forget(&offer);
        result
    }

    fn stage(&self, offer: &Offer, stream: impl Read, now: SystemTime) -> Result<()> {
        space::require(&self.paths.bundles(), &offer.manifest, &offer.missing)?;
        let staging = Staging::create(&self.staging(), &offer.digest)?;
        staging.write_head(&offer.manifest, &offer.provenance)?;
        let kept = kept::find(&self.paths, &offer.manifest);
        match tree::write(&staging.tree(), &offer.manifest, &offer.missing, &kept, stream) {
            Err(Error::Damaged { digest: damaged, path }) => {
                // A damaged bundle must never be applied; after its removal, the next offer asks for the blob.
                self.remove(&damaged)?;
                return Err(Error::Damaged { digest: damaged, path });
            }
            other => other?,
        }
        staging.commit(&self.paths.bundle(&offer.digest.to_string()), now)
    }

    /// Hashes every file of a bundle again; see [`verify`].
    ///
    /// # Errors
    /// If the bundle is missing or differs from its manifest; the message names the first path.
    pub fn verify(&self, digest: &Digest) -> Result<()> {
        hash_again(&self.paths, digest)
    }

    /// The manifest of a kept bundle.
    ///
    /// # Errors
    /// If the manifest is missing or unreadable.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        kept::manifest(&self.paths, digest)
    }

    /// The origin of a kept bundle, from its latest offer.
    ///
    /// # Errors
    /// If the bundle is missing, or the file is unreadable.
    pub fn provenance(&self, digest: &Digest) -> Result<Provenance> {
        let path = self.paths.bundle(&digest.to_string()).join("provenance.json");
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&text).map_err(Error::io("read", &path))
    }

    /// All bundles with their time of last use.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Kept>> {
        kept::list(&self.paths)
    }

    /// Removes the bundles that [`plan`] lists, and returns them. Never removes bundles in `in_use`.
    ///
    /// # Errors
    /// If a directory cannot be removed; earlier ones are already removed.
    pub fn retain(&self, in_use: &BTreeSet<Digest>) -> Result<Vec<Digest>> {
        let removals = plan(self.list()?, self.keep, in_use);
        removals.iter().try_for_each(|digest| self.remove(digest))?;
        Ok(removals)
    }

    fn remove(&self, digest: &Digest) -> Result<()> {
        remove(&self.paths, digest)
    }

    fn staging(&self) -> PathBuf {
        staging_below(&self.paths)
    }

    fn remember(&self, offer: Offer) {
        let mut offers = self.offers.lock().expect("no holder of this lock panics");
        offers.retain(|open| open.digest != offer.digest);
        offers.push_back(Arc::new(offer));
        if offers.len() > OPEN_OFFERS {
            offers.pop_front();
        }
    }

    fn recall(&self, digest: &Digest) -> Option<Arc<Offer>> {
        let offers = self.offers.lock().expect("no holder of this lock panics");
        offers.iter().find(|offer| offer.digest == *digest).cloned()
    }

    fn forget(&self, offer: &Arc<Offer>) {
        let mut offers = self.offers.lock().expect("no holder of this lock panics");
        offers.retain(|open| !Arc::ptr_eq(open, offer));
    }
}

/// Blobs in kept bundles, with their paths.
type Found = HashMap<Digest, kept::Place>;

/// Hashes every file of a bundle again, immediately before the apply and in the same process. Removes a bundle that
/// does not match its manifest, and all other damaged ones, since bundles share files: the next offer then asks for
/// the missing blobs.
///
/// # Errors
/// If the bundle is missing or differs from its manifest; the message names the first path.
pub(crate) fn verify(paths: &Paths, digest: &Digest) -> Result<()> {
    let verified = hash_again(paths, digest);
    if matches!(verified, Err(Error::Damaged { .. })) {
        for kept in kept::list(paths)? {
            if matches!(hash_again(paths, &kept.digest), Err(Error::Damaged { .. })) {
                remove(paths, &kept.digest)?;
            }
        }
    }
    verified
}

fn hash_again(paths: &Paths, digest: &Digest) -> Result<()> {
    tree::verify(digest, &paths.bundle_tree(&digest.to_string()), &kept::manifest(paths, digest)?)
}

/// Removes a bundle: hides it by a rename, then deletes its files.
fn remove(paths: &Paths, digest: &Digest) -> Result<()> {
    let grave = Staging::create(&staging_below(paths), digest)?;
    let bundle = paths.bundle(&digest.to_string());
    match fs::rename(&bundle, grave.tree()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::io("remove", &bundle)),
    }
}

fn staging_below(paths: &Paths) -> PathBuf {
    paths.bundles().join(".staging")
}
