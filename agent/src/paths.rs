//! File layout of the agent's data: one root directory, passed in by the caller, `/var/lib/magpie` by default.
//!
//! ```text
//! <root>/enrol.json            enrol document, readable by root only, written by the provider
//! <root>/limits.json           resource limits set by the provider (see `limits`)
//! <root>/state/                identity: appears complete, by one rename (see `enrol`)
//! <root>/state/claim.pb        the current claim (see `claim`)
//! <root>/state.new/            unfinished identity; its key survives a crash
//! <root>/quarantine/<time>/    identities that belong to another machine
//! <root>/bundles/<digest>/     manifest, provenance.json, tree/
//! <root>/bundles/.staging/     uploads in progress
//! <root>/runs/<id>/            request, lock, events, result, Puppet's directories for this run (see `run::directory`)
//! <root>/runs/.apply.lock      held by the supervisor of the running apply
//! <root>/puppet/               Puppet state that is kept between runs
//! <root>/history/              the flight record
//! ```

use std::path::{Path, PathBuf};

/// The agent's root directory and the names below it.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// File names below `root`; creates nothing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The enrol document that a provider writes before the first start.
    pub fn enrol_document(&self) -> PathBuf {
        self.root.join("enrol.json")
    }

    /// The provider's limits for the host.
    pub fn limits(&self) -> PathBuf {
        self.root.join("limits.json")
    }

    /// The identity; exists if and only if the host is enrolled.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The current claim; part of the identity directory, so that both are quarantined together.
    pub fn claim(&self) -> PathBuf {
        self.state().join("claim.pb")
    }

    /// Where an identity is prepared before the rename to [`Paths::state`].
    pub fn state_new(&self) -> PathBuf {
        self.root.join("state.new")
    }

    /// Where identities of other machines are moved to.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// The directory of all bundles.
    pub fn bundles(&self) -> PathBuf {
        self.root.join("bundles")
    }

    /// The directory of one bundle; `digest` is the hex digest of its manifest.
    pub fn bundle(&self, digest: &str) -> PathBuf {
        self.bundles().join(digest)
    }

    /// The unpacked tree of a bundle.
    pub fn bundle_tree(&self, digest: &str) -> PathBuf {
        self.bundle(digest).join("tree")
    }

    /// The directory of all runs.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// The directory of one run.
    pub fn run(&self, id: &str) -> PathBuf {
        self.runs().join(id)
    }

    /// Locked with `flock` by the supervisor of the running apply.
    pub fn apply_lock(&self) -> PathBuf {
        self.runs().join(".apply.lock")
    }

    /// Puppet state that is kept between runs.
    pub fn puppet(&self) -> PathBuf {
        self.root.join("puppet")
    }

    /// The directory of the flight record.
    pub fn history(&self) -> PathBuf {
        self.root.join("history")
    }
}
