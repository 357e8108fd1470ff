//! Where the agent keeps things: one root directory, given by the caller, `/var/lib/magpie` by default.
//!
//! ```text
//! <root>/enrol.json            enrol document, root-only, put there by the provider
//! <root>/limits.json           what the provider limits the host to (see `limits`)
//! <root>/state/                identity: appears whole by one rename (see `enrol`)
//! <root>/state/claim.pb        who has the host (see `claim`)
//! <root>/state.new/            identity in the making; its key survives a crash
//! <root>/quarantine/<time>/    identities that were found on another machine than their own
//! <root>/bundles/<digest>/     manifest, provenance.json, tree/
//! <root>/bundles/.staging/     uploads under way
//! <root>/runs/<id>/            request, lock, events, result, Puppet's directories of the run (see `run::directory`)
//! <root>/runs/.apply.lock      held by the supervisor of the one apply under way
//! <root>/puppet/               what Puppet keeps from run to run
//! <root>/history/              the flight record
//! ```

use std::path::{Path, PathBuf};

/// The agent's root directory and the names below it.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Names below `root`; nothing is created.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The enrol document that a provider leaves for the first start.
    pub fn enrol_document(&self) -> PathBuf {
        self.root.join("enrol.json")
    }

    /// What the provider limits the host to.
    pub fn limits(&self) -> PathBuf {
        self.root.join("limits.json")
    }

    /// The identity; exists if and only if the host is enrolled.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Who has the host; within the identity, so that it goes where that goes.
    pub fn claim(&self) -> PathBuf {
        self.state().join("claim.pb")
    }

    /// Where an identity is made before it is renamed to [`Paths::state`].
    pub fn state_new(&self) -> PathBuf {
        self.root.join("state.new")
    }

    /// Where identities go that do not belong to this machine.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// All bundles.
    pub fn bundles(&self) -> PathBuf {
        self.root.join("bundles")
    }

    /// One bundle, by the hex digest of its manifest.
    pub fn bundle(&self, digest: &str) -> PathBuf {
        self.bundles().join(digest)
    }

    /// The checked-out tree of a bundle.
    pub fn bundle_tree(&self, digest: &str) -> PathBuf {
        self.bundle(digest).join("tree")
    }

    /// All runs.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// One run, by its id.
    pub fn run(&self, id: &str) -> PathBuf {
        self.runs().join(id)
    }

    /// Held with `flock` by the supervisor of the apply under way.
    pub fn apply_lock(&self) -> PathBuf {
        self.runs().join(".apply.lock")
    }

    /// What Puppet keeps from run to run.
    pub fn puppet(&self) -> PathBuf {
        self.root.join("puppet")
    }

    /// The flight record.
    pub fn history(&self) -> PathBuf {
        self.root.join("history")
    }
}
