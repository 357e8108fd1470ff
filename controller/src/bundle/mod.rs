//! The bundle on the controller: from a Puppet tree, checked out or at a revision, to a host that has it.
//!
//! [`source`] makes a [`Bundle`], [`check`] finds mistakes before any host is touched, [`push`] sends what a host lacks.

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
    /// Root of the control repository; may be a directory within a git repository.
    pub path: PathBuf,
    /// A shell command that completes the tree, such as `r10k puppetfile install`; it runs in a copy.
    pub prepare: Option<String>,
    /// The Puppet environment that the code is applied as.
    #[serde(default = "production")]
    pub environment: String,
    /// What is left out, as patterns of `.gitignore` relative to `path`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Links that leave the repository are replaced by what they lead to on this machine. Never from a revision.
    #[serde(default)]
    pub outside_links: bool,
}

impl BundleConfig {
    /// The code at `path` as it is, everything else by default.
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

/// A tree that is ready to be pushed. The files stay where they are until they are sent.
#[derive(Debug)]
pub struct Bundle {
    manifest: Manifest,
    digest: Digest,
    provenance: Provenance,
    files: HashMap<String, PathBuf>,
    blobs: HashMap<Digest, PathBuf>,
    warnings: Vec<String>,
    /// A prepared tree and what was read out of git, removed with the bundle.
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

    /// What is in it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its name.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Where it came from.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// What is probably not as it was meant, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Bytes in all its files together.
    pub fn total_bytes(&self) -> u64 {
        self.manifest.total_bytes()
    }

    /// Where the file at `path` lies on this machine.
    pub fn file(&self, path: &str) -> Option<&Path> {
        self.files.get(path).map(PathBuf::as_path)
    }

    /// The text of the file at `path`; `None` if there is no such file.
    ///
    /// # Errors
    /// It cannot be read, or is not UTF-8.
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
