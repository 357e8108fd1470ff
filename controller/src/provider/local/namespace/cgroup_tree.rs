//! Control group trees of cgroup2 and version 1: finding where they are mounted, and creating and removing groups.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::unistd::{AccessFlags, access};

use crate::{
    error::{Error, Result},
    provider::local::failure::Doing,
};

/// Timeout for a cgroup to become empty after its processes were killed.
const EMPTYING: Duration = Duration::from_secs(2);

/// Mount points of the cgroup trees.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Trees {
    pub(super) unified: Option<PathBuf>,
    pub(super) memory: Option<PathBuf>,
}

/// Finds the trees in a mountinfo text; format of proc_pid_mountinfo(5).
pub(super) fn parse_mountinfo(text: &str) -> Trees {
    let mut trees = Trees::default();
    for line in text.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4) else { continue };
        let mut right = right.split(' ');
        match (right.next(), right.nth(1)) {
            (Some("cgroup2"), _) => trees.unified.get_or_insert_with(|| point.into()),
            (Some("cgroup"), Some(options)) if options.split(',').any(|option| option == "memory") => {
                trees.memory.get_or_insert_with(|| point.into())
            }
            _ => continue,
        };
    }
    trees
}

/// The highest cgroup at or above `own` in which this user may create groups.
pub(super) fn delegated(tree: &Path, own: &Path) -> Result<PathBuf> {
    own.ancestors()
        .take_while(|group| group.starts_with(tree))
        .take_while(|group| access(&group.join("cgroup.procs"), AccessFlags::W_OK).is_ok())
        .last()
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            Error::invalid(format!("this user may not create cgroups in {}", own.display()))
                .hint("systemd-run --user --scope -p Delegate=yes ctl ...")
                .hint("or run ctl as root")
        })
}

pub(super) fn create(group: &Path) -> Result<()> {
    fs::create_dir_all(group).map_err(|error| {
        let failed = Error::invalid(format!("cannot create the cgroup {}: {error}", group.display()));
        match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                failed.hint("in a container, the cgroup tree must be writable")
            }
            _ => failed,
        }
    })
}

pub(super) fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).doing(|| format!("cannot write {value} to {}", path.display()))
}

/// Removes a tree of cgroups, and waits for the kernel to empty them. No-op if it is missing.
pub(super) fn remove_empty(group: &Path) -> Result<()> {
    let deadline = Instant::now() + EMPTYING;
    loop {
        match remove_tree(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => {
                return Err(Error::unreachable(format!(
                    "cannot remove the cgroup {}: {error}",
                    group.display()
                )));
            }
        }
    }
}

fn remove_tree(group: &Path) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    gone(fs::remove_dir(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_of_a_hybrid_machine() {
        let text = "24 1 0:22 / /proc rw - proc proc rw\n\
            30 24 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
            31 24 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let trees = parse_mountinfo(text);
        assert_eq!(trees.memory.as_deref(), Some(Path::new("/sys/fs/cgroup/memory")));
        assert_eq!(trees.unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
    }

    proptest::proptest! {
        #[test]
        fn foreign_text_never_panics(text in "\\PC*") {
            parse_mountinfo(&text);
        }
    }
}
