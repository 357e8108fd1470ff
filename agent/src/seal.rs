//! `agent seal`: the last step before a disk becomes an image. What tells one machine from another must not be in it.
//!
//! [`plan`] lists what is there and would go, [`execute`] does it. The tree may be the running system's or that of a
//! disk that is mounted somewhere; in the second case no path may lead out of it.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::paths::Paths;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Take it all away.
    Seal,
    /// Only say what would go.
    DryRun,
    /// Fail if there is something that identifies a machine.
    Check,
}

/// Why a tree could not be sealed, or is not fit to be an image.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A file could not be looked at or removed.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A symbolic link leads to somebody else's files.
    #[error("{} leads out of {} through a symbolic link; nothing was removed", path.display(), tree.display())]
    Outside {
        /// What was asked for.
        path: PathBuf,
        /// What it should be in.
        tree: PathBuf,
    },
    /// Puppet would go on writing.
    #[error("an apply is under way; seal this host when it is over")]
    Busy,
    /// The units could not be stopped.
    #[error("the agent's units cannot be stopped: {0}")]
    Units(String),
    /// The list could not be printed.
    #[error("the list cannot be written: {0}")]
    Output(#[from] io::Error),
    /// [`Mode::Check`] found something.
    #[error(
        "{0} of these identify a machine: an image must not carry them; run `agent seal` before it is made"
    )]
    Identified(usize),
}

impl SealError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}

/// What something tells of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who it is for its fleet or its Puppet server. Nothing makes it but enrolment.
    Identity,
    /// Who it is for everybody else; every boot makes what is missing of it.
    Boot,
    /// What it did.
    Trace,
}

/// What happens to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// It goes, with all that is in it.
    Remove,
    /// It stays, with nothing in it: systemd makes an id for an empty machine-id(5), at each boot anew for a missing one.
    Truncate,
}

/// Something that is there and would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it is.
    pub path: PathBuf,
    /// What it tells.
    pub kind: Kind,
    action: Action,
}

/// Below the agent's own directory.
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

/// Everywhere else. A name may begin or end with `*`, and a directory may be `*`.
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

/// Does what `mode` says to the tree below `tree` (`/`, or where a disk is mounted), in which the agent keeps things
/// below `root`. The paths concerned are written to `out`, one a line.
///
/// # Errors
/// Any [`SealError`]. With [`SealError::File`] some of it may have gone already: run it again.
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
            // What they have made since it was listed goes as well.
            execute(&plan(tree, root)?)
        }
    }
}

/// What is there and would go, in the order in which it would.
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

/// Makes what [`plan`] listed go.
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

/// What exists of a pattern, sorted. Nothing is looked at that is not in the tree.
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

/// The entries of a directory that have this name, or match it.
fn entries(tree: &Path, directory: &Path, name: &str) -> Result<Vec<PathBuf>, SealError> {
    let place = match directory.canonicalize() {
        Ok(place) if place.starts_with(tree) => place,
        Ok(_) => return Err(SealError::Outside { path: directory.to_owned(), tree: tree.to_owned() }),
        // A link may also lead nowhere.
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

/// Whether a machine-id(5) is there, rather than still to be made.
fn is_set(path: &Path) -> Result<bool, SealError> {
    let id = fs::read(path).map_err(SealError::file(path))?;
    Ok(!matches!(id.trim_ascii(), b"" | b"uninitialized"))
}

/// Directories that packages leave tell nothing.
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

/// Holds the lock of applies, if there have ever been any.
fn no_apply(paths: &Paths) -> Result<Option<Flock<fs::File>>, SealError> {
    let path = paths.apply_lock();
    match fs::File::open(&path) {
        Ok(file) => Flock::lock(file, FlockArg::LockExclusiveNonblock).map(Some).map_err(|_| SealError::Busy),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(SealError::file(&path)(error)),
    }
}

/// What would write again what was removed. Without systemd (sd_booted(3)) nobody knows of any units.
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
