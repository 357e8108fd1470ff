//! Which symbolic links a bundle may contain: relative links that end inside the tree.
//!
//! Resolution follows the kernel's rules (`path_resolution(7)`), not string rules: `..` leaves the directory that a
//! link led to, a file is not a directory, and at most [`MAX_HOPS`] links are followed. Checks on strings alone have
//! been defeated by links through links more than once (CVE-2025-4517).

use super::{
    entry::{Entry, Kind},
    path::{self, PathProblem},
};

/// Maximum number of links followed to reach one target (`MAXSYMLINKS` of Linux).
pub const MAX_HOPS: u32 = 40;

/// Maximum number of steps for all links of one manifest, so that a malicious one cannot keep the reader busy.
const MAX_STEPS: u32 = 1_000_000;

/// Why a link is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkProblem {
    /// A component of the target breaks the rules of [`path`].
    #[error("the target is not a relative path in its simplest form: {0}")]
    Target(PathProblem),
    /// The link leads above the root of the bundle.
    #[error("it points outside the bundle")]
    Outside,
    /// The target does not exist, or a file is used as a directory.
    #[error("it points to nothing in the bundle")]
    Dangling,
    /// The link leads back to itself, or through too many links.
    #[error("it leads back to itself")]
    Loop,
    /// Resolving the links of this manifest takes too many steps.
    #[error("the links of this bundle take too many steps to resolve")]
    Tangled,
}

/// Resolves links within one manifest's entries.
pub(super) struct Resolver<'m> {
    entries: &'m [Entry],
    steps: u32,
}

impl<'m> Resolver<'m> {
    /// The entries must be sorted by path and contain all parent directories.
    pub(super) fn new(entries: &'m [Entry]) -> Self {
        Self { entries, steps: 0 }
    }

    /// Checks the link at path `link`, which points to `target`.
    pub(super) fn check(&mut self, link: &'m str, target: &'m str) -> Result<(), LinkProblem> {
        check_target(target)?;
        let mut at: Vec<&str> =
            path::parent(link).map_or_else(Vec::new, |parent| parent.split('/').collect());
        let mut ahead: Vec<&str> = target.rsplit('/').collect();
        let mut hops = 0;
        while let Some(name) = ahead.pop() {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(LinkProblem::Tangled);
            }
            match name {
                "." => continue,
                ".." => {
                    at.pop().ok_or(LinkProblem::Outside)?;
                    continue;
                }
                _ => at.push(name),
            }
            match &self.find(&at.join("/")).ok_or(LinkProblem::Dangling)?.kind {
                Kind::Directory => {}
                Kind::File { .. } if ahead.is_empty() => {}
                Kind::File { .. } => return Err(LinkProblem::Dangling),
                Kind::Link { target } => {
                    hops += 1;
                    if hops == MAX_HOPS {
                        return Err(LinkProblem::Loop);
                    }
                    check_target(target)?;
                    at.pop();
                    ahead.extend(target.rsplit('/'));
                }
            }
        }
        Ok(())
    }

    fn find(&self, path: &str) -> Option<&'m Entry> {
        let index = self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        Some(&self.entries[index])
    }
}

/// A target is `.`, or names and `..` joined by single slashes.
fn check_target(target: &str) -> Result<(), LinkProblem> {
    if target == "." {
        return Ok(());
    }
    if target.len() > path::MAX_LENGTH {
        return Err(LinkProblem::Target(PathProblem::Long));
    }
    target.split('/').filter(|name| *name != "..").try_for_each(path::check_name).map_err(LinkProblem::Target)
}
