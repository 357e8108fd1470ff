//! Builds a [`Bundle`] from a working tree or a git revision.
//!
//! A clean checkout and its commit give the same bundle on every machine: git's lists decide which files belong to it
//! ([`listing`](super::listing)), git's objects provide the content ([`content`](super::content)).

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use proto::bundle::{
    Entry, Kind, Manifest, ManifestError, Provenance, environment, link::LinkProblem, path::parent,
};
use tempfile::TempDir;

use super::{
    Bundle, BundleConfig,
    choice::Choice,
    content::{Stored, contents},
    found::{Found, FoundKind},
    git::{self, Changes, Checkout},
    links::{self, Selection},
    listing::{self, Listing, Rules},
    modules, names, outside, prepare,
};
use crate::error::{Error, Result};

/// Builds a bundle from the current tree at `config.path`, relative to `directory`: tracked files, and new files that
/// are not ignored; completed by `prepare`.
///
/// # Errors
/// The tree cannot be read, breaks a rule for bundles (the error names the path), or `prepare` fails.
pub fn from_working_tree(directory: &Path, config: &BundleConfig, now: SystemTime) -> Result<Bundle> {
    let root = canonical(&directory.join(&config.path))?;
    let mut builder = Builder::new(config, &root, false)?;
    let provenance = |commit, dirty| provenance(&root, commit, dirty, now);
    if let Some(checkout) = Checkout::of(&root)? {
        let list = |path: &str| Listing::working_tree(&checkout, path);
        let (listing, selection) = builder.select(list, &checkout.prefix)?;
        // Treat a directory that git ignores completely as a directory outside git.
        if !listing.entries.is_empty() || !checkout.ignored() {
            let (found, dirty) = builder.collect(&listing, selection, &checkout.prefix)?;
            return builder.finish(found, provenance(checkout.head().unwrap_or_default(), dirty));
        }
    }
    let (listing, selection) = builder.select(|_| Listing::directory(&root, Rules::Gitignore), "")?;
    let (found, _) = builder.collect(&listing, selection, "")?;
    builder.finish(found, provenance(String::new(), Vec::new()))
}

/// Builds a bundle from the tree at `revision` (anything that git understands), completed by `prepare`. Does not change
/// the checkout or the index.
///
/// # Errors
/// The path is not in a git checkout, the revision or its directory is unknown, or as [`from_working_tree`].
pub fn from_revision(
    directory: &Path,
    config: &BundleConfig,
    revision: &str,
    now: SystemTime,
) -> Result<Bundle> {
    let root = canonical(&directory.join(&config.path))?;
    let checkout = Checkout::of(&root)?.ok_or_else(|| {
        Error::invalid(format!("{} is not in a git checkout, so it has no revisions", root.display()))
    })?;
    let commit = checkout.commit(revision)?;
    let mut builder = Builder::new(config, &root, true)?;
    let list = |path: &str| Listing::commit(&checkout, &commit, path);
    let (listing, selection) = builder.select(list, &checkout.prefix)?;
    if !checkout.prefix.is_empty() && names::below(&listing.entries, &checkout.prefix).next().is_none() {
        return Err(Error::invalid(format!("commit {commit} has no directory `{}`", checkout.prefix)));
    }
    let (found, _) = builder.collect(&listing, selection, &checkout.prefix)?;
    builder.finish(found, provenance(&root, commit, Vec::new(), now))
}

fn canonical(path: &Path) -> Result<PathBuf> {
    let invalid = |reason: String| {
        Error::invalid(format!("the bundle's path {} {reason}", path.display()))
            .hint("`path` under [bundle] must be the root of the Puppet code")
    };
    let root = fs::canonicalize(path).map_err(|error| invalid(format!("cannot be opened: {error}")))?;
    if root.is_dir() { Ok(root) } else { Err(invalid("is not a directory".to_owned())) }
}

fn provenance(root: &Path, commit: String, dirty: Vec<String>, now: SystemTime) -> Provenance {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let when_unix_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    Provenance { commit, dirty, who: git::who(root), when_unix_ms }
}

/// State while a bundle is built.
struct Builder<'c> {
    config: &'c BundleConfig,
    root: &'c Path,
    /// Whether the source is a commit instead of the working tree.
    is_revision: bool,
    choice: Choice,
    scratch: TempDir,
    /// Paths of submodules that `prepare` has to fetch.
    submodules: Vec<String>,
}

impl<'c> Builder<'c> {
    fn new(config: &'c BundleConfig, root: &'c Path, is_revision: bool) -> Result<Self> {
        // The tree may contain secrets: readable only by its owner, whatever the umask.
        let mut scratch = tempfile::Builder::new();
        scratch.prefix("magpie-").permissions(Permissions::from_mode(0o700));
        let scratch = scratch
            .tempdir()
            .map_err(|error| Error::invalid(format!("cannot create a temporary directory: {error}")))?;
        let choice = Choice::new(&config.exclude)?;
        Ok(Self { config, root, is_revision, choice, scratch, submodules: Vec::new() })
    }

    /// Lists the paths below `prefix`, or the whole repository if a link leads out of `prefix`.
    fn select(&self, list: impl Fn(&str) -> Result<Listing>, prefix: &str) -> Result<(Listing, Selection)> {
        let listing = list(prefix)?;
        let selection = links::select(&listing.entries, prefix, prefix.is_empty(), &self.choice)?;
        if !selection.beyond {
            return Ok((listing, selection));
        }
        let listing = list("")?;
        let selection = links::select(&listing.entries, prefix, true, &self.choice)?;
        Ok((listing, selection))
    }

    /// Reads the selected files; also returns the paths of the bundle that have uncommitted changes.
    fn collect(
        &mut self,
        listing: &Listing,
        selection: Selection,
        prefix: &str,
    ) -> Result<(Vec<Found>, Vec<String>)> {
        let mut wanted: Vec<&str> = selection.elsewhere.iter().map(String::as_str).collect();
        wanted.push(prefix);
        for (path, error) in &listing.unusable {
            let elsewhere =
                || wanted.iter().any(|wanted| links::within(path, wanted).is_some()).then_some(path.as_str());
            let inside = links::within(path, prefix).or_else(elsewhere);
            if let Some(inside) = inside.filter(|inside| !self.choice.excludes(inside)) {
                self.choice.leave_out(inside, Error::invalid(error))?;
            }
        }
        let paths: BTreeSet<&str> = selection.files.iter().map(|(_, path)| path.as_str()).collect();
        let changes = || if self.is_revision { Ok(Changes::default()) } else { listing.changes(&wanted) };
        let (contents, changes) = contents(listing, &paths, self.scratch.path(), changes)?;
        let dirty = dirty(listing, &selection, &changes, prefix);
        let mut found = Vec::with_capacity(selection.files.len() + selection.links.len());
        for (path, from) in &selection.files {
            // Removed since it was listed.
            let Some(content) = contents.get(from.as_str()) else { continue };
            match content.stored {
                Some(stored) => self.choice.leave_out(path, self.stored(path, stored))?,
                None => found.push(Found { path: path.clone(), kind: FoundKind::File(content.clone()) }),
            }
        }
        for (path, text) in selection.links {
            found.push(Found { path, kind: FoundKind::Link(text) });
        }
        self.broken(selection.broken, &mut found)?;
        self.outside(listing, selection.outside, &mut found)?;
        self.missing_submodules(selection.submodules)?;
        Ok((found, dirty))
    }

    /// Keeps broken links if there is a `prepare` command, which may create their targets; otherwise reports them.
    fn broken(&mut self, broken: Vec<(String, String)>, found: &mut Vec<Found>) -> Result<()> {
        for (path, text) in broken {
            if self.config.prepare.is_some() {
                found.push(Found { path, kind: FoundKind::Link(text) });
                continue;
            }
            let error = Error::invalid(format!("the link `{path}` is broken (`{}`)", text.escape_debug()))
                .hint("its target may be ignored by git, left out by `exclude`, or an empty directory");
            self.choice.leave_out(&path, error)?;
        }
        Ok(())
    }

    fn outside(
        &mut self,
        listing: &Listing,
        links: Vec<(String, String)>,
        found: &mut Vec<Found>,
    ) -> Result<()> {
        for (path, from) in links {
            let listed = &listing.entries[&from];
            let listing::Kind::Link(text) = &listed.kind else { continue };
            let error = Error::invalid(format!(
                "the link `{path}` leads out of the repository (`{}`)",
                text.escape_debug()
            ));
            match &listed.disk {
                Some(disk) if self.config.outside_links && !self.is_revision => {
                    self.follow(disk, &path, found)?;
                }
                Some(_) if !self.is_revision => self.choice.leave_out(
                    &path,
                    error.hint(
                        "`outside_links = true` under [bundle] replaces it with its target on this machine",
                    ),
                )?,
                _ => self.choice.leave_out(&path, error.hint("a revision contains only committed files"))?,
            }
        }
        Ok(())
    }

    fn follow(&mut self, link: &Path, path: &str, found: &mut Vec<Found>) -> Result<()> {
        let entries = outside::follow(link, path)?;
        let listing = Listing { entries, ..Listing::default() };
        let paths: BTreeSet<&str> =
            listing.entries.keys().map(String::as_str).filter(|path| !self.choice.excludes(path)).collect();
        let (mut contents, _) = contents(&listing, &paths, self.scratch.path(), || Ok(Changes::default()))?;
        for path in paths {
            let kind = match &listing.entries[path].kind {
                listing::Kind::Link(text) => FoundKind::Link(text.clone()),
                _ => match contents.remove(path) {
                    Some(content) => FoundKind::File(content),
                    None => continue,
                },
            };
            found.push(Found { path: path.to_owned(), kind });
        }
        Ok(())
    }

    /// Reports missing submodules; with a `prepare` command, only after it has run.
    fn missing_submodules(&mut self, missing: Vec<String>) -> Result<()> {
        if self.config.prepare.is_some() {
            self.submodules.extend(missing);
            return Ok(());
        }
        missing.into_iter().try_for_each(|path| {
            let error = Error::invalid(format!("`{path}` is a git submodule that is not checked out"));
            let error = match self.is_revision {
                true => error.hint("a revision does not contain submodules: fetch it in the `prepare` command under [bundle], or push the working tree"),
                false => error.hint("`git submodule update --init` fetches it"),
            };
            self.choice.leave_out(&path, error)
        })
    }

    fn stored(&self, path: &str, stored: Stored) -> Error {
        let (what, command) = match stored {
            Stored::Lfs => ("a Git LFS pointer, not the real file", "git lfs pull"),
            Stored::Crypt => ("encrypted by git-crypt", "git crypt unlock"),
        };
        let hint = match self.is_revision {
            true => format!(
                "a revision contains only this form: run `{command}`, then push the working tree, without --rev"
            ),
            false => format!("`{command}` restores the real file"),
        };
        Error::invalid(format!("`{path}` is {what}")).hint(hint)
    }

    fn finish(mut self, found: Vec<Found>, provenance: Provenance) -> Result<Bundle> {
        let found = match &self.config.prepare {
            None => found,
            Some(command) => self.prepared(command, &found)?,
        };
        let (manifest, files) = self.manifest(found)?;
        let text =
            |path: &str| files.get(path).and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        let here = (!self.is_revision && self.config.prepare.is_none()).then_some(self.root);
        let paths = manifest.entries().iter().map(|entry| entry.path.as_str());
        self.choice.warnings.extend(modules::missing(
            &text("Puppetfile"),
            &text(environment::FILE),
            paths,
            here,
        ));
        Ok(Bundle::new(manifest, provenance, files, self.choice.warnings, self.scratch))
    }

    /// Runs the `prepare` command in a copy and lists all files afterwards, because git often ignores what it installs.
    fn prepared(&mut self, command: &str, found: &[Found]) -> Result<Vec<Found>> {
        let copy = self.scratch.path().join("tree");
        let made = |error| Error::invalid(format!("cannot create a copy for the prepare command: {error}"));
        fs::create_dir(&copy).map_err(made)?;
        prepare::copy(found, &copy)?;
        self.submodules.iter().try_for_each(|path| fs::create_dir_all(copy.join(path))).map_err(made)?;
        prepare::run(command, &copy)?;
        let copy = canonical(&copy)?;
        let config = BundleConfig { prepare: None, ..self.config.clone() };
        let submodules = std::mem::take(&mut self.submodules);
        let mut after = Builder {
            config: &config,
            root: &copy,
            is_revision: false,
            ..Builder::new(&config, &copy, false)?
        };
        let (listing, selection) = after.select(|_| Listing::directory(&copy, Rules::Everything), "")?;
        let (found, _) = after.collect(&listing, selection, "")?;
        self.choice.warnings.append(&mut after.choice.warnings);
        submodules.into_iter().try_for_each(|path| {
            if names::below(&listing.entries, &path).next().is_some() {
                return Ok(());
            }
            let error = Error::invalid(format!(
                "`{path}` is a git submodule, and the prepare command did not fetch it"
            ));
            self.choice.leave_out(&path, error)
        })?;
        Ok(found)
    }

    /// Builds the manifest, and a map from each path to the file on this machine.
    fn manifest(&mut self, mut found: Vec<Found>) -> Result<(Manifest, HashMap<String, PathBuf>)> {
        loop {
            match Manifest::new(entries(&found)) {
                Ok(manifest) => {
                    let place = |found: Found| match found.kind {
                        FoundKind::File(content) => Some((found.path, content.place)),
                        FoundKind::Link(_) => None,
                    };
                    return Ok((manifest, found.into_iter().filter_map(place).collect()));
                }
                Err(error) => {
                    let path = culprit(&error).ok_or_else(|| refused(&error))?.to_owned();
                    self.choice.leave_out(&path, refused(&error))?;
                    found.retain(|found| found.path != path && !found.path.starts_with(&format!("{path}/")));
                }
            }
        }
    }
}

impl Listing {
    /// Tracked paths with uncommitted changes, at and below these paths.
    fn changes(&self, paths: &[&str]) -> Result<Changes> {
        let mut all = Changes::default();
        for (checkout, at) in &self.repositories {
            let changes = checkout.changes(if at.is_empty() { paths } else { &[""] })?;
            let whole = |paths: HashSet<String>| paths.into_iter().map(|path| names::join(at, &path));
            all.any.extend(whole(changes.any));
            all.on_disk.extend(whole(changes.on_disk));
        }
        Ok(all)
    }
}

/// Paths of the bundle with uncommitted changes, and removed paths below `prefix`.
fn dirty(listing: &Listing, selection: &Selection, changes: &Changes, prefix: &str) -> Vec<String> {
    if listing.repositories.is_empty() {
        return Vec::new();
    }
    let differs = |path: &str| {
        changes.any.contains(path)
            || listing
                .entries
                .get(path)
                .is_some_and(|listed| listed.committed.is_none() && listed.disk.is_some())
    };
    let files = selection.files.iter().filter(|(_, from)| differs(from)).map(|(path, _)| path.clone());
    let at = |path: &str| names::join(prefix, path);
    let links = selection.links.iter().filter(|(path, _)| differs(&at(path))).map(|(path, _)| path.clone());
    let gone = changes.any.iter().filter(|path| !listing.entries.contains_key(*path));
    let inside = |path: &String| {
        let rest = path.strip_prefix(prefix)?;
        let rest = if prefix.is_empty() { rest } else { rest.strip_prefix('/')? };
        Some(rest.to_owned())
    };
    let all: BTreeSet<String> = files.chain(links).chain(gone.filter_map(inside)).collect();
    all.into_iter().collect()
}

fn entries(found: &[Found]) -> Vec<Entry> {
    let mut entries = directories(found);
    entries.extend(found.iter().map(|Found { path, kind }| {
        let kind = match kind {
            FoundKind::Link(target) => Kind::Link { target: target.clone() },
            FoundKind::File(content) => Kind::File { executable: content.executable, blob: content.blob },
        };
        Entry { path: path.clone(), kind }
    }));
    entries
}

fn directories(found: &[Found]) -> Vec<Entry> {
    let mut seen = HashSet::new();
    for Found { path, .. } in found {
        let mut at = path.as_str();
        while let Some(directory) = parent(at).filter(|directory| seen.insert(*directory)) {
            at = directory;
        }
    }
    seen.into_iter().map(|path| Entry { path: path.to_owned(), kind: Kind::Directory }).collect()
}

/// The path that breaks the rule, if leaving it out would help.
fn culprit(error: &ManifestError) -> Option<&str> {
    match error {
        ManifestError::Path { path, .. } | ManifestError::Link { path, .. } => Some(path),
        ManifestError::CaseCollision { second, .. } | ManifestError::FormCollision { second, .. } => {
            Some(second)
        }
        _ => None,
    }
}

fn refused(error: &ManifestError) -> Error {
    let refused = Error::invalid(error);
    match error {
        ManifestError::Link { problem: LinkProblem::Dangling, .. } => {
            refused.hint("its target may be ignored by git, left out by `exclude`, or an empty directory")
        }
        ManifestError::TooLarge | ManifestError::TooManyEntries { .. } => refused.hint(
            "a bundle should contain only code; exclude the rest with .gitignore or `exclude` under [bundle]",
        ),
        _ => refused,
    }
}

#[cfg(test)]
mod tests;
