//! The user namespace: the ids on the machine that stand for 0–65535 inside, and how to enter it.

use std::{fs, os::fd::AsFd, path::Path, process::Stdio};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
    sys::prctl,
    unistd::{Gid, Uid, User, getegid, geteuid, setgroups, setresgid, setresuid},
};

use super::{
    channel::Channel,
    tool::{NEWGIDMAP, NEWUIDMAP, Tool},
};
use crate::{
    error::{Error, Result},
    provider::local::failure::Doing,
};

/// Number of ids inside: 0–65535, the range that distributions use.
const COUNT: u32 = 65536;

/// Id on the machine for id 0 inside, if root runs ctl: 0x4d410000 ("MA"). Inside 524288–1879048191, which systemd
/// reserves for containers (systemd.io/UIDS-GIDS), and above 600100000, where useradd(8) stops giving out subordinate
/// ids by default. Fixed, because all files of an image are owned by these ids.
const FIRST: u32 = 0x4d41_0000;

/// Mapping from ids inside to ids on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdMap {
    /// For root: one range, written directly.
    Fixed,
    /// For an ordinary user: the user's own id is root inside, the rest are the user's subordinate ids.
    Subordinate {
        /// The user's id and first subordinate user id.
        uid: (u32, u32),
        /// The group's id and first subordinate group id.
        gid: (u32, u32),
    },
}

impl IdMap {
    /// The map for the user of this process.
    pub(crate) fn of_this_user() -> Result<Self> {
        if geteuid().is_root() {
            return Ok(Self::Fixed);
        }
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let name = User::from_uid(geteuid()).ok().flatten().map(|user| user.name).unwrap_or_default();
        Ok(Self::Subordinate {
            uid: (uid, subordinate(Path::new("/etc/subuid"), &name, uid)?),
            gid: (gid, subordinate(Path::new("/etc/subgid"), &name, uid)?),
        })
    }

    /// Ids on the machine of root inside.
    pub(crate) fn root(&self) -> (Uid, Gid) {
        match self {
            Self::Fixed => (Uid::from_raw(FIRST), Gid::from_raw(FIRST)),
            Self::Subordinate { uid, gid } => (Uid::from_raw(uid.0), Gid::from_raw(gid.0)),
        }
    }

    /// Writes the map for process `pid`, which has created its namespace and waits.
    fn write(&self, pid: u32) -> Result<()> {
        match self {
            Self::Fixed => {
                for map in ["uid_map", "gid_map"] {
                    let path = format!("/proc/{pid}/{map}");
                    fs::write(&path, format!("0 {FIRST} {COUNT}"))
                        .doing(|| format!("cannot write {path}"))?;
                }
                Ok(())
            }
            Self::Subordinate { uid, gid } => {
                map_with(NEWUIDMAP, pid, *uid)?;
                map_with(NEWGIDMAP, pid, *gid)
            }
        }
    }

    /// The parent's half of [`enter_new`].
    pub(crate) fn grant(&self, channel: &Channel, pid: u32) -> Result<()> {
        let () = channel.receive()?;
        self.write(pid)?;
        channel.send(())
    }
}

fn map_with(tool: Tool, pid: u32, (own, first): (u32, u32)) -> Result<()> {
    let (pid, own, first) = (pid.to_string(), own.to_string(), first.to_string());
    let rest = (COUNT - 1).to_string();
    let output = tool
        .command()
        .args([&pid, "0", &own, "1", "1", &first, &rest])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| tool.not_started(&error))?;
    tool.check(&output)
}

/// First id of the user's range of at least 65535 ids in `path`, which is in the format of subuid(5).
fn subordinate(path: &Path, name: &str, uid: u32) -> Result<u32> {
    let text = fs::read_to_string(path).unwrap_or_default();
    parse_subordinate(&text, name, uid).ok_or_else(|| {
        Error::invalid(format!("{} has no range of 65535 or more ids for {name} (uid {uid})", path.display()))
            .hint(format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"))
            .hint("or run ctl as root")
    })
}

fn parse_subordinate(text: &str, name: &str, uid: u32) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let (owner, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let ours = owner == name || owner.parse() == Ok(uid);
        let enough = count.parse::<u32>().ok()? >= COUNT - 1;
        (ours && enough).then(|| first.parse().ok()).flatten()
    })
}

/// Creates a user namespace and becomes root in it; the process at the other end of `channel` writes the map.
///
/// There must be no exec in between: it takes the capabilities from a process without a mapped id.
pub(crate) fn enter_new(channel: &Channel) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER).map_err(refused)?;
    channel.send(())?;
    let () = channel.receive()?;
    become_root()
}

/// Joins the user and network namespaces of process `pid` and becomes root there.
pub(crate) fn join(pid: u32) -> Result<()> {
    let open = |kind: &str| {
        let path = format!("/proc/{pid}/ns/{kind}");
        fs::File::open(&path).doing(|| format!("cannot open {path}"))
    };
    let (user, net) = (open("user")?, open("net")?);
    setns(user.as_fd(), CloneFlags::CLONE_NEWUSER).doing(|| "cannot join the cloud's user namespace")?;
    setns(net.as_fd(), CloneFlags::CLONE_NEWNET).doing(|| "cannot join the cloud's network namespace")?;
    become_root()
}

fn become_root() -> Result<()> {
    let root = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[])
        .and_then(|()| setresgid(root.1, root.1, root.1))
        .and_then(|()| setresuid(root.0, root.0, root.0))
        .map_err(refused)?;
    // The change of ids made this process undumpable, so it no longer owns its /proc entries.
    prctl::set_dumpable(true).doing(|| "cannot make this process dumpable")
}

/// The error for a refused user namespace, with a hint for the cause.
fn refused(errno: Errno) -> Error {
    let error = Error::invalid(format!("this machine refuses a user namespace: {errno}"));
    let set_to = |name: &str, value: &str| {
        fs::read_to_string(Path::new("/proc/sys").join(name)).is_ok_and(|text| text.trim() == value)
    };
    if set_to("kernel/apparmor_restrict_unprivileged_userns", "1") && !geteuid().is_root() {
        return error.hint("AppArmor allows no user namespaces to ordinary users: run ctl as root, or set kernel.apparmor_restrict_unprivileged_userns=0");
    }
    if set_to("user/max_user_namespaces", "0") {
        return error.hint("user namespaces are disabled: sysctl user.max_user_namespaces=10000");
    }
    if set_to("kernel/unprivileged_userns_clone", "0") && !geteuid().is_root() {
        return error.hint("ordinary users may not create user namespaces: run ctl as root");
    }
    error.hint("in a container, ctl needs the right to create namespaces and mounts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_range_by_name_or_number() {
        let text = "alice:100000:65536\n1001:165536:65535\n# nothing\nbob:1:10\n";
        assert_eq!(parse_subordinate(text, "alice", 1), Some(100_000));
        assert_eq!(parse_subordinate(text, "carol", 1001), Some(165_536));
        assert_eq!(parse_subordinate(text, "bob", 2), None, "a range of 10 is too small");
    }

    #[test]
    fn fixed_range_is_where_systemd_wants_containers() {
        assert!(FIRST.is_multiple_of(COUNT));
        assert!((524_288..=1_879_048_191 - COUNT).contains(&FIRST));
    }
}
