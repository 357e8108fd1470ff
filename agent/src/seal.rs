//! `agent seal`: removes everything that identifies a machine, before its disk becomes an image.
//!
//! [`plan`] lists what would be removed, [`execute`] removes it. The tree is the running system's root or the mount
//! point of another disk; in the second case no path may lead out of the tree.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::paths::Paths;

/// What [`seal`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Remove everything on the list.
    Seal,
    /// Only list what would be removed.
    DryRun,
    /// Fail if anything on the list identifies a machine.
    Check,
}

/// Why a tree could not be sealed, or cannot become an image.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A file could not be read or removed.
    #[error("{}: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// The error of the file operation.
        source: io::Error,
    },
    /// A symbolic link leads out of the tree.
    #[error("{} leads out of {} through a symbolic link; nothing was removed", path.display(), tree.display())]
    Outside {
        /// The path before links are resolved.
        path: PathBuf,
        /// The tree that must contain it.
        tree: PathBuf,
    },
    /// An apply is running, and Puppet would write more files.
    #[error("an apply is running; run `agent seal` again when it has finished")]
    Busy,
    /// systemd could not stop the units.
    #[error("cannot stop the agent's units: {0}")]
    Units(String),
    /// The list could not be printed.
    #[error("cannot write the list: {0}")]
    Output(#[from] io::Error),
    /// [`Mode::Check`] found something.
    #[error("{0} of these identify a machine and must not be in an image; run `agent seal` first")]
    Identified(usize),
}

impl SealError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}

/// What a path reveals about the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its identity in the fleet or at its Puppet server. Only enrolment creates this.
    Identity,
    /// Its identity towards everyone else; every boot creates what is missing.
    Boot,
    /// What it has done.
    Trace,
}

/// What happens to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Remove the path and everything below it.
    Remove,
    /// Keep an empty file: systemd fills an empty machine-id(5), but makes a new id at each boot if the file is
    /// missing.
    Truncate,
}

/// A path that would be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Path within the tree.
    pub path: PathBuf,
    /// What the path reveals.
    pub kind: Kind,
    action: Action,
}

/// Paths below the agent's data directory.
const OWN: &[(&str, Kind)] = &[
    ("state", Kind::Identity),
    ("state.new", Kind::Identity),
    ("quarantine", Kind::Identity),
    ("enrol.json", Kind::Identity),
    ("limits.json", Kind::Trace),
    ("runs", Kind::Trace),
    ("bundles", Kind::Trace),
    ("history", Kind::Trace),
    ("puppet", Kind::Identity),
];

/// Paths below the tree. A name may begin or end with `*`, and a directory may be `*`.
const ELSEWHERE: &[(&str, Kind)] = &[
    ("var/lib/puppet/ssl", Kind::Identity),
    ("etc/puppetlabs/puppet/ssl", Kind::Identity),
    ("etc/machine-id", Kind::Boot),
    ("var/lib/dbus/machine-id", Kind::Boot),
    ("etc/ssh/ssh_host_*", Kind::Boot),
    ("var/lib/systemd/random-seed", Kind::Boot),
    ("var/lib/urandom/random-seed", Kind::Boot),
    ("var/lib/systemd/credential.secret", Kind::Boot),
    ("var/lib/cloud/*", Kind::Boot),
    ("var/log/cloud-init*", Kind::Trace),
    ("var/log/journal/*", Kind::Trace),
    ("root/.*_history", Kind::Trace),
    ("home/*/.*_history", Kind::Trace),
];

/// Seals `tree` (`/`, or the mount point of a disk), where `root` is the agent's data directory. Writes the listed
/// paths to `out`, one on each line.
///
/// # Errors
/// Any [`SealError`]. After [`SealError::File`], part of the list may be removed already: run it again.
pub fn seal(tree: &Path, root: &Path, mode: Mode, out: &mut impl Write) -> Result<(), SealError> {
    let is_running = tree.canonicalize().is_ok_and(|tree| tree == Path::new("/"));
    let mut items = plan(tree, root)?;
    if mode == Mode::Check {
        items.retain(|item| item.kind == Kind::Identity || (item.kind == Kind::Boot && !is_running));
    }
    for item in &items {
        writeln!(out, "{}", item.path.display())?;
    }
    match mode {
        Mode::DryRun => Ok(()),
        Mode::Check if items.is_empty() => Ok(()),
        Mode::Check => Err(SealError::Identified(items.len())),
        Mode::Seal => {
            let _idle = no_apply(&Paths::new(within(tree, root)))?;
            if is_running {
                stop_units()?;
            }
            // The units may have written more files since the list was made.
            execute(&plan(tree, root)?)
        }
    }
}

/// Lists what would be removed, in order.
///
/// # Errors
/// [`SealError::File`] and [`SealError::Outside`].
pub fn plan(tree: &Path, root: &Path) -> Result<Vec<Item>, SealError> {
    let root = root.strip_prefix("/").unwrap_or(root);
    let tree = tree.canonicalize().map_err(SealError::file(tree))?;
    let mut items = Vec::new();
    for (name, kind) in OWN {
        for path in matching(&tree, &root.join(name))? {
            items.push(Item { path, kind: *kind, action: Action::Remove });
        }
    }
    for (pattern, kind) in ELSEWHERE {
        for path in matching(&tree, Path::new(pattern))? {
            let is_machine_id = path.ends_with("etc/machine-id");
            let action = if is_machine_id { Action::Truncate } else { Action::Remove };
            let tells = if is_machine_id { is_set(&path)? } else { has_files(&path)? };
            if tells {
                items.push(Item { path, kind: *kind, action });
            }
        }
    }
    Ok(items)
}

/// Removes the items that [`plan`] listed.
///
/// # Errors
/// [`SealError::File`].
pub fn execute(items: &[Item]) -> Result<(), SealError> {
    for Item { path, action, .. } in items {
        let done = match action {
            Action::Truncate => {
                let no_link = OFlag::O_NOFOLLOW.bits();
                OpenOptions::new().write(true).truncate(true).custom_flags(no_link).open(path).map(drop)
            }
            Action::Remove if is_directory(path) => fs::remove_dir_all(path),
            Action::Remove => fs::remove_file(path),
        };
        match done {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(SealError::file(path)(error)),
            _ => (),
        }
    }
    nix::unistd::sync();
    Ok(())
}

/// The existing paths that match a pattern, sorted. Never leaves the tree.
fn matching(tree: &Path, pattern: &Path) -> Result<Vec<PathBuf>, SealError> {
    let mut found = vec![tree.to_owned()];
    for name in pattern {
        let mut next = Vec::new();
        for directory in found {
            next.extend(entries(tree, &directory, &name.to_string_lossy())?);
        }
        found = next;
    }
    found.sort();
    Ok(found)
}

/// The entries of a directory whose name equals or matches `name`.
fn entries(tree: &Path, directory: &Path, name: &str) -> Result<Vec<PathBuf>, SealError> {
    let place = match directory.canonicalize() {
        Ok(place) if place.starts_with(tree) => place,
        Ok(_) => return Err(SealError::Outside { path: directory.to_owned(), tree: tree.to_owned() }),
        // Also for a dangling link.
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(SealError::file(directory)(error)),
    };
    let Some((begin, end)) = name.split_once('*') else {
        let path = place.join(name);
        return match path.symlink_metadata() {
            Ok(_) => Ok(vec![path]),
            Err(error) if is_absent(&error) => Ok(Vec::new()),
            Err(error) => Err(SealError::file(&path)(error)),
        };
    };
    let listing = match fs::read_dir(&place) {
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        listing => listing.map_err(SealError::file(&place))?,
    };
    let mut paths = Vec::new();
    for entry in listing {
        let entry = entry.map_err(SealError::file(&place))?;
        let file_name = entry.file_name();
        let file_name = file_name.to_string_lossy();
        if file_name.len() >= begin.len() + end.len()
            && file_name.starts_with(begin)
            && file_name.ends_with(end)
        {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Whether the file has a machine-id(5), rather than none yet.
fn is_set(path: &Path) -> Result<bool, SealError> {
    let id = fs::read(path).map_err(SealError::file(path))?;
    Ok(!matches!(id.trim_ascii(), b"" | b"uninitialized"))
}

/// Whether a directory tree holds any file. Empty directories from packages reveal nothing.
fn has_files(path: &Path) -> Result<bool, SealError> {
    if !is_directory(path) {
        return Ok(true);
    }
    for entry in fs::read_dir(path).map_err(SealError::file(path))? {
        if has_files(&entry.map_err(SealError::file(path))?.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

fn within(tree: &Path, root: &Path) -> PathBuf {
    tree.join(root.strip_prefix("/").unwrap_or(root))
}

/// Takes the apply lock, if this host has ever had an apply.
fn no_apply(paths: &Paths) -> Result<Option<Flock<fs::File>>, SealError> {
    let path = paths.apply_lock();
    match fs::File::open(&path) {
        Ok(file) => Flock::lock(file, FlockArg::LockExclusiveNonblock).map(Some).map_err(|_| SealError::Busy),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(SealError::file(&path)(error)),
    }
}

/// Stops the units that would write new files. Without systemd (sd_booted(3)) there are no units.
fn stop_units() -> Result<(), SealError> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(());
    }
    let stop =
        Command::new("systemctl").args(["stop", "magpie-agent.service", "magpie-record.service"]).output();
    let stop = stop.map_err(|error| SealError::Units(format!("systemctl: {error}")))?;
    if stop.status.success() {
        return Ok(());
    }
    Err(SealError::Units(String::from_utf8_lossy(&stop.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests;
