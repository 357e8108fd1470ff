//! The bundle on the controller: built from a Puppet tree, a working tree or a git revision, and pushed to hosts.
//!
//! [`source`] builds a [`Bundle`], [`check`] finds mistakes before any host is changed, [`push`] sends the missing
//! files.

pub mod check;
mod choice;
mod content;
mod found;
mod git;
mod links;
mod listing;
mod modules;
mod names;
mod object_id;
mod objects;
mod outside;
mod prepare;
pub mod push;
pub mod source;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use proto::bundle::{Blob, Digest, Manifest, Provenance};
use serde::Deserialize;
use tempfile::TempDir;

use crate::error::{Error, Result};

/// `[bundle]` in `magpie.toml`: where the Puppet code is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleConfig {
    /// Root of the control repository; may be a subdirectory of a git repository.
    pub path: PathBuf,
    /// Shell command that completes the tree, such as `r10k puppetfile install`; runs in a copy.
    pub prepare: Option<String>,
    /// Name of the Puppet environment to apply the code as.
    #[serde(default = "production")]
    pub environment: String,
    /// Paths to leave out: patterns in `.gitignore` syntax, relative to `path`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Whether links that leave the repository are replaced by their targets on this machine; never for a revision.
    #[serde(default)]
    pub outside_links: bool,
}

impl BundleConfig {
    /// The code at `path`, with default settings.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            prepare: None,
            environment: production(),
            exclude: Vec::new(),
            outside_links: false,
        }
    }
}

fn production() -> String {
    "production".to_owned()
}

/// A tree that is ready to push. Files are read from their original place when they are sent.
#[derive(Debug)]
pub struct Bundle {
    manifest: Manifest,
    digest: Digest,
    provenance: Provenance,
    files: HashMap<String, PathBuf>,
    blobs: HashMap<Digest, PathBuf>,
    warnings: Vec<String>,
    /// The prepared tree and the files read from git; removed with the bundle.
    _scratch: TempDir,
}

impl Bundle {
    fn new(
        manifest: Manifest,
        provenance: Provenance,
        files: HashMap<String, PathBuf>,
        warnings: Vec<String>,
        scratch: TempDir,
    ) -> Self {
        let blobs = manifest.files().map(|(path, _, blob)| (blob.digest, files[path].clone())).collect();
        Self { digest: manifest.digest(), manifest, provenance, files, blobs, warnings, _scratch: scratch }
    }

    /// The list of all entries.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The digest that identifies the bundle.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Commit, changed paths, user and time.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// Warnings about probable mistakes, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Total size of all files in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.manifest.total_bytes()
    }

    /// Path on this machine of the file at `path` in the bundle.
    pub fn file(&self, path: &str) -> Option<&Path> {
        self.files.get(path).map(PathBuf::as_path)
    }

    /// The text of the file at `path`; `None` if there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, or is not UTF-8.
    pub fn text(&self, path: &str) -> Result<Option<String>> {
        let Some(file) = self.file(path) else { return Ok(None) };
        fs::read_to_string(file)
            .map(Some)
            .map_err(|error| Error::invalid(format!("cannot read {path}: {error}")))
    }

    fn blob_path(&self, blob: &Blob) -> Option<&Path> {
        self.blobs.get(&blob.digest).map(PathBuf::as_path)
    }
}
