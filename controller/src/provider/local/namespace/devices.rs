//! A host's /dev: six device nodes, its own pseudo-terminals, and the first of these as the console.
//!
//! Device nodes cannot be created in a user namespace (mknod(2)), so root creates them before entering one, in a
//! detached file system that the host's init mounts later: see fsmount(2), move_mount(2).

use std::{
    fs::{DirBuilder, File, OpenOptions},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, OpenOptionsExt, symlink},
    },
    path::Path,
};

use nix::{
    fcntl::{AtFlags, OFlag},
    mount::{MsFlags, mount},
    sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mknodat},
    unistd::fchownat,
};
use rustix::{
    fs::CWD,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_string,
        fsmount, fsopen, move_mount,
    },
    pty::unlockpt,
};

use super::{
    channel::Channel,
    mounts::{bind_read_only, flags, mount_new},
    userns::IdMap,
};
use crate::{error::Result, provider::local::failure::Doing};

/// Name, major and minor number; the kernel's admin-guide/devices.txt.
const NODES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Device nodes for one host; `None` if this user may not create any.
#[derive(Debug)]
pub(crate) struct Nodes(Option<OwnedFd>);

impl Nodes {
    /// Creates the nodes, owned by root inside, if this is root. Call this outside of our user namespaces.
    pub(crate) fn make(map: &IdMap) -> Result<Self> {
        match map {
            IdMap::Fixed => make(map).doing(|| "cannot make device nodes for the host").map(Some).map(Self),
            IdMap::Subordinate { .. } => Ok(Self(None)),
        }
    }

    /// Sends the nodes to the process that will mount them.
    pub(crate) fn send(self, channel: &Channel) -> Result<()> {
        let files: Vec<_> = self.0.iter().map(AsFd::as_fd).collect();
        channel.send_files(&files)
    }

    /// Receives the nodes from [`Nodes::send`].
    pub(crate) fn receive(channel: &Channel) -> Result<Self> {
        Ok(Self(channel.receive_files()?.into_iter().next()))
    }
}

fn make(map: &IdMap) -> std::io::Result<OwnedFd> {
    let (uid, gid) = map.root();
    let config = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in
        [("mode", "755"), ("size", "64m"), ("uid", &uid.to_string()), ("gid", &gid.to_string())]
    {
        fsconfig_set_string(&config, key, value)?;
    }
    fsconfig_create(&config)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let dev = fsmount(&config, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let mode = Mode::from_bits_truncate(0o666);
    for (name, major, minor) in NODES {
        mknodat(&dev, name, SFlag::S_IFCHR, mode, makedev(major, minor))?;
        // Restores the bits that the umask removed.
        fchmodat(&dev, name, mode, FchmodatFlags::FollowSymlink)?;
        fchownat(&dev, name, Some(uid), Some(gid), AtFlags::empty())?;
    }
    Ok(dev)
}

/// Mounts /dev below `root`; returns both ends of the console.
pub(crate) fn lay_out(root: &Path, nodes: Nodes) -> Result<(OwnedFd, OwnedFd)> {
    let dev = root.join("dev");
    let what = || "cannot lay out /dev";
    match nodes.0 {
        Some(own) => {
            move_mount(&own, "", CWD, &dev, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).doing(what)?;
        }
        None => bind_nodes(&dev)?,
    }
    for name in ["pts", "shm"] {
        DirBuilder::new().mode(0o755).create(dev.join(name)).doing(what)?;
    }
    mount_new(
        "devpts",
        &dev.join("pts"),
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        Some("newinstance,ptmxmode=0666,mode=620,gid=5"),
    )?;
    mount_new("tmpfs", &dev.join("shm"), flags(), Some("mode=1777"))?;
    for (target, name) in [
        ("pts/ptmx", "ptmx"),
        ("/proc/self/fd", "fd"),
        ("fd/0", "stdin"),
        ("fd/1", "stdout"),
        ("fd/2", "stderr"),
    ] {
        symlink(target, dev.join(name)).doing(what)?;
    }
    open_console(&dev)
}

/// For ordinary users, who may not create nodes: bind mounts the machine's own nodes, read-only. Their owner has no id
/// inside, so they could not be changed there even through a writable mount.
fn bind_nodes(dev: &Path) -> Result<()> {
    mount_new("tmpfs", dev, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, Some("mode=755,size=64m"))?;
    for (name, ..) in NODES {
        let (node, target) = (Path::new("/dev").join(name), dev.join(name));
        let what = || format!("cannot show {} to the host", node.display());
        File::create(&target).doing(what)?;
        bind_read_only(&node, &target, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC).doing(what)?;
    }
    Ok(())
}

/// A terminal of the host's own devpts, bound to /dev/console. Neither end becomes a controlling terminal, so a hang-up
/// inside has no effect outside.
fn open_console(dev: &Path) -> Result<(OwnedFd, OwnedFd)> {
    let what = || "cannot make the host's console";
    let open = |path: &Path| {
        OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(path).doing(what)
    };
    let master = open(&dev.join("pts/ptmx"))?;
    unlockpt(&master).doing(what)?;
    // The first terminal of a new devpts instance is 0.
    let slave_path = dev.join("pts/0");
    let slave = open(&slave_path)?;
    let console = dev.join("console");
    File::create(&console).doing(what)?;
    mount(Some(&slave_path), &console, None::<&str>, MsFlags::MS_BIND, None::<&str>).doing(what)?;
    Ok((master.into(), slave.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nodes_are_sent_as_none_and_the_channel_goes_on() {
        let (one, other) = Channel::pair().unwrap();
        Nodes::make(&IdMap::Subordinate { uid: (1, 2), gid: (1, 2) }).unwrap().send(&one).unwrap();
        one.send(7).unwrap();
        assert!(Nodes::receive(&other).unwrap().0.is_none());
        assert_eq!(other.receive::<i32>().unwrap(), 7);
    }
}
