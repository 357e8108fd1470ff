//! Checks that only trusted users can write the configuration. `magpie.toml` contains commands that `ctl` runs
//! (`prepare`, `proxy`), and `ctl` searches parent directories for it. Without this check, anyone who can write `/tmp`
//! could run commands as any user who works below it (as with git before CVE-2022-24765).
//!
//! The file, its CA directory, and the parent directories of both must belong to the user who runs `ctl` or to root,
//! and must not be writable by other users. A directory with the sticky bit, such as `/tmp`, may be writable, because
//! users can only change their own files there. As in git, root also trusts files of the user who called sudo. If you
//! name a file explicitly, `ctl` trusts the file and its owner.

use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Group, Uid, User, geteuid};

use crate::error::{Error, Result};

/// The users whose files `ctl` trusts.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    users: Vec<Uid>,
    /// Directory of an explicitly named file; not checked, because the user chose the file.
    named: Option<PathBuf>,
}

/// Why a file or directory is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    /// It belongs to this untrusted user.
    Foreign(Uid),
    /// Other users can write it; this is its mode.
    Open(u32),
}

/// The attributes that decide whether a path is trusted.
#[derive(Clone, Copy, Debug)]
struct Standing {
    owner: Uid,
    mode: u32,
    /// Only the owner is in the group.
    own_group: bool,
}

impl Trust {
    /// Trusts the caller and root; as root, also the user who called sudo.
    pub(super) fn of_caller() -> Self {
        let me = geteuid();
        let caller = env::var("SUDO_UID").ok().filter(|_| me.is_root()).and_then(|uid| uid.parse().ok());
        let users = [Some(me), Some(Uid::from_raw(0)), caller.map(Uid::from_raw)];
        Self { users: users.into_iter().flatten().collect(), named: None }
    }

    /// Also trusts the owner of the explicitly named file at `path`, and everyone who can write its directory.
    pub(super) fn with_owner_of(mut self, path: &Path) -> Self {
        self.users.extend(fs::metadata(path).map(|metadata| Uid::from_raw(metadata.uid())));
        self.named = path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
        self
    }

    /// Refuses the configuration at `path` if untrusted users can write it.
    pub(super) fn check_file(&self, path: &Path) -> Result<()> {
        let shown = path.display();
        self.check(path).map_err(|error| {
            error.hint(format!("if you trust it: `ctl --config {shown} …` or MAGPIE_CONFIG={shown}"))
        })
    }

    /// Refuses the CA directory at `path` if untrusted users can write it. A missing directory is not an error here.
    pub(super) fn check_directory(&self, path: &Path) -> Result<()> {
        if path.exists() { self.check(path) } else { Ok(()) }
    }

    /// Checks `path`, its target if it is a link, and the directories of both.
    fn check(&self, path: &Path) -> Result<()> {
        let cannot = |error| Error::invalid(format!("cannot check {}: {error}", path.display()));
        let end = path.canonicalize().map_err(cannot)?;
        let link = fs::symlink_metadata(path).map_err(cannot)?;
        if link.is_symlink() && !self.users.contains(&Uid::from_raw(link.uid())) {
            return Err(refused(path, Problem::Foreign(Uid::from_raw(link.uid()))));
        }
        let beside =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let places: [Option<PathBuf>; 3] =
            [Some(end.clone()), end.parent().map(Path::to_owned), Some(beside.to_owned())];
        let is_named = |place: &PathBuf| self.named.is_some() && place.canonicalize().ok() == self.named;
        for place in places.into_iter().flatten().filter(|place| !is_named(place)) {
            let standing = Standing::of(&place).map_err(cannot)?;
            if let Some(problem) = standing.problem(&self.users) {
                return Err(refused(&place, problem));
            }
        }
        Ok(())
    }
}

impl Standing {
    fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let (owner, group) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
        Ok(Self { owner, mode: metadata.mode(), own_group: is_own_group(owner, group) })
    }

    fn problem(self, trusted: &[Uid]) -> Option<Problem> {
        const STICKY_DIRECTORY: u32 = 0o041_000;
        if !trusted.contains(&self.owner) {
            return Some(Problem::Foreign(self.owner));
        }
        let others = if self.own_group { 0o002 } else { 0o022 };
        let sticky = self.mode & STICKY_DIRECTORY == STICKY_DIRECTORY;
        (self.mode & others != 0 && !sticky).then_some(Problem::Open(self.mode & 0o7777))
    }
}

/// Whether the group is root's, or a private group: the user's name, no other members. Most distributions create one
/// for each user (with umask 002).
fn is_own_group(owner: Uid, group: Gid) -> bool {
    if group.as_raw() == 0 {
        return true;
    }
    let (Ok(Some(user)), Ok(Some(group))) = (User::from_uid(owner), Group::from_gid(group)) else {
        return false;
    };
    group.name == user.name && group.mem.iter().all(|member| *member == user.name)
}

fn refused(path: &Path, problem: Problem) -> Error {
    let shown = path.display();
    match problem {
        Problem::Foreign(owner) => {
            Error::invalid(format!("{shown} belongs to {}, who could run commands as you", name(owner)))
        }
        Problem::Open(mode) => Error::invalid(format!(
            "{shown} is writable by other users (mode {mode:04o}), who could run commands as you"
        ))
        .hint(format!("chmod go-w {shown}")),
    }
}

fn name(user: Uid) -> String {
    User::from_uid(user).ok().flatten().map_or_else(|| format!("user {user}"), |user| user.name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const ME: Uid = Uid::from_raw(1000);
    const ROOT: Uid = Uid::from_raw(0);
    const OTHER: Uid = Uid::from_raw(65534);

    #[test]
    fn owner_and_mode_decide() {
        let foreign = Some(Problem::Foreign(OTHER));
        for (owner, mode, own_group, problem) in [
            (ME, 0o100_644, false, None),
            (ROOT, 0o100_644, false, None),
            (OTHER, 0o100_600, false, foreign),
            (OTHER, 0o041_777, false, foreign),
            (ME, 0o100_664, true, None),
            (ME, 0o100_664, false, Some(Problem::Open(0o664))),
            (ME, 0o100_646, true, Some(Problem::Open(0o646))),
            (ME, 0o040_775, false, Some(Problem::Open(0o775))),
            (ROOT, 0o041_777, false, None),
            // The sticky bit has no effect on a file.
            (ME, 0o101_666, false, Some(Problem::Open(0o1666))),
        ] {
            let standing = Standing { owner, mode, own_group };
            assert_eq!(standing.problem(&[ME, ROOT]), problem, "{owner} {mode:o} {own_group}");
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_refused_with_the_command_to_fix_it() {
        let root = tempfile::tempdir().expect("a directory");
        let file = root.path().canonicalize().expect("a path").join("magpie.toml");
        fs::write(&file, "").expect("written");
        let mode =
            |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set");
        mode(&file, 0o644);
        let trust = Trust::of_caller();
        trust.check_file(&file).expect("own");
        mode(&file, 0o646);
        let shown = file.display();
        let error = trust.check_file(&file).expect_err("open");
        assert_eq!(
            error.to_string(),
            format!("{shown} is writable by other users (mode 0646), who could run commands as you")
        );
        let hints = [
            format!("chmod go-w {shown}"),
            format!("if you trust it: `ctl --config {shown} …` or MAGPIE_CONFIG={shown}"),
        ];
        assert_eq!(error.hints(), hints);
        mode(&file, 0o644);
        mode(root.path(), 0o777);
        assert!(trust.check_file(&file).is_err(), "it could be replaced");
        mode(root.path(), 0o1777);
        trust.check_file(&file).expect("others may add files, not replace this one");
    }

    #[test]
    fn the_directory_of_a_named_file_may_be_shared_but_not_its_ca_directory() {
        let root = tempfile::tempdir().expect("a directory");
        let (file, ca) = (root.path().join("magpie.toml"), root.path().join(".magpie"));
        fs::write(&file, "").expect("written");
        fs::create_dir(&ca).expect("made");
        let mode =
            |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("set");
        mode(root.path(), 0o777);
        mode(&ca, 0o700);
        assert!(Trust::of_caller().check_directory(&ca).is_err(), "not named");
        let named = Trust::of_caller().with_owner_of(&file);
        named.check_directory(&ca).expect("the way that the hint shows");
        mode(&ca, 0o777);
        assert!(named.check_directory(&ca).is_err());
    }

    #[test]
    fn a_link_is_checked_with_its_target() {
        let (here, elsewhere) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"));
        let (file, link) = (elsewhere.path().join("real"), here.path().join("magpie.toml"));
        fs::write(&file, "").expect("written");
        symlink(&file, &link).expect("a link");
        fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).expect("set");
        assert!(Trust::of_caller().check_file(&link).is_err());
        fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("set");
        Trust::of_caller().check_file(&link).expect("own");
    }
}
