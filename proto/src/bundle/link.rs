//! Which symbolic links a bundle may hold: relative ones that end inside the tree.
//!
//! Resolution follows the kernel's rules (`path_resolution(7)`), not string rules: `..` leaves the directory that a
//! link led to, a file cannot be walked through, and at most [`MAX_HOPS`] links are followed. A rule on strings alone has been beaten by
//! links through links more than once (CVE-2025-4517).

use super::{
    entry::{Entry, Kind},
    path::{self, PathProblem},
};

/// Most links followed on the way to one target (`MAXSYMLINKS` of Linux).
pub const MAX_HOPS: u32 = 40;

/// Most steps in all links of one manifest, so that a hostile one cannot keep the reader busy.
const MAX_STEPS: u32 = 1_000_000;

/// What is wrong with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkProblem {
    /// A component of the target breaks the rules of [`path`].
    #[error("the target is not a relative path in its simplest form: {0}")]
    Target(PathProblem),
    /// Climbs above the root of the bundle.
    #[error("it points outside the bundle")]
    Outside,
    /// There is nothing at its end, or a file where a directory is needed.
    #[error("nothing in the bundle is where it points")]
    Dangling,
    /// Leads back to itself, or through too many links.
    #[error("it leads back to itself")]
    Loop,
    /// Links of this manifest take too many steps to follow.
    #[error("the links of this bundle are too tangled to follow")]
    Tangled,
}

/// Follows links within one manifest's entries.
pub(super) struct Resolver<'m> {
    entries: &'m [Entry],
    steps: u32,
}

impl<'m> Resolver<'m> {
    /// For entries that are sorted by path and each have their parent directory among them.
    pub(super) fn new(entries: &'m [Entry]) -> Self {
        Self { entries, steps: 0 }
    }

    /// Checks the link at `link`, which points at `target`.
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

/// A target is `.`, or components that are names or `..`, joined by one `/`.
fn check_target(target: &str) -> Result<(), LinkProblem> {
    if target == "." {
        return Ok(());
    }
    if target.len() > path::MAX_LENGTH {
        return Err(LinkProblem::Target(PathProblem::Long));
    }
    target.split('/').filter(|name| *name != "..").try_for_each(path::check_name).map_err(LinkProblem::Target)
}
