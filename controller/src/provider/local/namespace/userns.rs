//! The user namespace: which ids on the machine stand for 0–65535 inside, and how to get in.

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

/// Ids inside: 0–65535, all that a distribution uses.
const COUNT: u32 = 65536;

/// Where root puts id 0: 0x4d410000 ("MA"). Inside 524288–1879048191, which systemd reserves for containers
/// (systemd.io/UIDS-GIDS), and above 600100000, where useradd(8) stops giving out subordinate ids by default.
/// Fixed, because it is written into the ownership of every file of an image.
const FIRST: u32 = 0x4d41_0000;

/// How ids inside map to ids on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IdMap {
    /// Started by root: one range, written directly.
    Fixed,
    /// Started by a user: their own id is root inside, the rest are their subordinate ids.
    Subordinate {
        /// The user and their first subordinate user id.
        uid: (u32, u32),
        /// The group and its first subordinate group id.
        gid: (u32, u32),
    },
}

impl IdMap {
    /// The map for whoever runs this process.
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

    /// Who root inside is on the machine.
    pub(crate) fn root(&self) -> (Uid, Gid) {
        match self {
            Self::Fixed => (Uid::from_raw(FIRST), Gid::from_raw(FIRST)),
            Self::Subordinate { uid, gid } => (Uid::from_raw(uid.0), Gid::from_raw(gid.0)),
        }
    }

    /// Gives the map to process `pid`, which has made its namespace and waits.
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

/// The first of at least 65535 ids that `path` gives to a user; format of subuid(5).
fn subordinate(path: &Path, name: &str, uid: u32) -> Result<u32> {
    let text = fs::read_to_string(path).unwrap_or_default();
    parse_subordinate(&text, name, uid).ok_or_else(|| {
        Error::invalid(format!("{} gives {name} (uid {uid}) no range of 65535 ids or more", path.display()))
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

/// Makes a user namespace and becomes root in it; the process at the other end of `channel` writes the map.
///
/// There must be no exec in between: a process without a mapped id loses its capabilities by it.
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
    // The change of ids made this process undumpable, and so its own /proc entries somebody else's.
    prctl::set_dumpable(true).doing(|| "cannot make this process inspectable")
}

/// Why there is no user namespace, and what to do about it.
fn refused(errno: Errno) -> Error {
    let error = Error::invalid(format!("this machine refuses a user namespace: {errno}"));
    let set_to = |name: &str, value: &str| {
        fs::read_to_string(Path::new("/proc/sys").join(name)).is_ok_and(|text| text.trim() == value)
    };
    if set_to("kernel/apparmor_restrict_unprivileged_userns", "1") && !geteuid().is_root() {
        return error.hint("AppArmor keeps them from ordinary users here: run ctl as root, or set kernel.apparmor_restrict_unprivileged_userns=0");
    }
    if set_to("user/max_user_namespaces", "0") {
        return error.hint("they are switched off: sysctl user.max_user_namespaces=10000");
    }
    if set_to("kernel/unprivileged_userns_clone", "0") && !geteuid().is_root() {
        return error.hint("ordinary users may not make them here: run ctl as root");
    }
    error.hint("inside a container it needs the right to make namespaces and mounts")
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
