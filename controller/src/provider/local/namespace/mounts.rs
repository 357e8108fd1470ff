//! Mounts in our own mount namespaces: a root file system of layers, the kernel's file systems, and read-only mounts
//! over the parts of these that processes inside must not change.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statfs::{FUSE_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, statfs},
    unistd::{chdir, pivot_root},
};

use crate::{
    error::{Error, Result},
    provider::local::failure::Doing,
};

/// Makes later mounts invisible outside this mount namespace.
pub(crate) fn private_mounts() -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .doing(|| "cannot keep mounts private")
}

/// Mounts `layers` with a writable layer on top. All paths are relative to the working directory, because root inside
/// may not be able to traverse the path to it.
pub(crate) fn mount_overlay(layers: &[PathBuf], upper: &Path, work: &Path, root: &Path) -> Result<()> {
    let lower: Vec<_> = layers.iter().map(|layer| layer.display().to_string()).collect();
    let options = format!(
        "userxattr,lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        upper.display(),
        work.display()
    );
    mount(Some("overlay"), root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .map_err(|errno| overlay_refused(errno, upper))
}

fn overlay_refused(errno: Errno, upper: &Path) -> Error {
    let error = Error::invalid(format!("cannot mount the host's root file system with overlayfs: {errno}"));
    if errno == Errno::ENODEV {
        return error.hint("the kernel lacks overlayfs: modprobe overlay");
    }
    let state = std::env::current_dir().unwrap_or_default();
    match statfs(upper).map(|found| found.filesystem_type()).ok().and_then(unfit) {
        Some(kind) => Error::invalid(format!(
            "the state directory {} is on {kind}, which overlayfs cannot use for disks ({errno})",
            state.display()
        ))
        .hint("use a directory on ext4, xfs or btrfs: `state = \"…\"` in [local] of magpie.toml")
        .hint("in a container, use a volume, not the container's own file system"),
        None => error.hint("overlayfs in a user namespace needs Linux 5.11 or newer"),
    }
}

/// File systems that overlayfs refuses to write to; kernel documentation filesystems/overlayfs.rst, "Upper and
/// Lower".
fn unfit(kind: FsType) -> Option<&'static str> {
    [(OVERLAYFS_SUPER_MAGIC, "an overlay"), (NFS_SUPER_MAGIC, "NFS"), (FUSE_SUPER_MAGIC, "FUSE")]
        .into_iter()
        .find_map(|(known, name)| (known == kind).then_some(name))
}

/// Flags of all mounts inside: no setuid programs, no device nodes.
pub(super) fn flags() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV
}

pub(super) fn mount_new(kind: &str, target: &Path, flags: MsFlags, options: Option<&str>) -> Result<()> {
    mount(Some(kind), target, Some(kind), flags, options)
        .doing(|| format!("cannot mount {kind} at {}", target.display()))
}

/// Mounts /proc, /sys, /run and /tmp.
pub(crate) fn mount_kernel(root: &Path) -> Result<()> {
    let still = flags() | MsFlags::MS_NOEXEC;
    let masked =
        |error: Error| error.hint("in a container, nothing may be mounted over parts of /proc and /sys");
    mount_new("proc", &root.join("proc"), still, None).map_err(masked)?;
    mount_new("sysfs", &root.join("sys"), still | MsFlags::MS_RDONLY, None).map_err(masked)?;
    mount_new("tmpfs", &root.join("run"), flags(), Some("mode=755"))?;
    mount_new("tmpfs", &root.join("tmp"), flags(), Some("mode=1777"))
}

/// Mounts the host's own part of the cgroup2 tree; the cgroup namespace hides the rest.
pub(crate) fn mount_cgroups(root: &Path) -> Result<()> {
    mount_new("cgroup2", &root.join("sys/fs/cgroup"), flags() | MsFlags::MS_NOEXEC, None)
}

/// Mounts the host's own part of the v1 memory controller's tree, read-only, where the recorder reads out-of-memory
/// kills and memory use. Not below /sys/fs/cgroup, where a directory would be a control group of the host.
pub(crate) fn mount_memory_counters(root: &Path) -> Result<()> {
    let target = root.join("run/host/cgroup/memory");
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&target)
        .doing(|| format!("cannot create {}", target.display()))?;
    mount_new("cgroup", &target, flags() | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY, Some("memory"))
}

/// Makes the machine's settings in /proc read-only inside, except those of the host's own network.
pub(crate) fn restrict_proc(root: &Path) -> Result<()> {
    let proc = root.join("proc");
    let what = || "cannot protect /proc";
    let net = proc.join("sys/net");
    for name in ["sys", "sysrq-trigger", "irq", "bus"] {
        let path = proc.join(name);
        if path.exists() {
            bind_read_only(&path, &path, flags() | MsFlags::MS_NOEXEC).doing(what)?;
        }
    }
    mount(Some(&net), &net, None::<&str>, MsFlags::MS_BIND, None::<&str>).doing(what)?;
    let writable = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags() | MsFlags::MS_NOEXEC;
    mount(None::<&str>, &net, None::<&str>, writable, None::<&str>).doing(what)
}

/// The flags of a bind mount can only be set by a second mount call, with `MS_REMOUNT` (mount(2)).
pub(super) fn bind_read_only(source: &Path, target: &Path, more: MsFlags) -> nix::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | more;
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
}

/// Makes `root` the root and unmounts the old one; see pivot_root(2), "pivot_root(".", ".")".
pub(crate) fn enter(root: &Path) -> Result<()> {
    let what = || "cannot enter the host's root file system";
    chdir(root).and_then(|()| pivot_root(".", ".")).doing(what)?;
    umount2(".", MntFlags::MNT_DETACH).and_then(|()| chdir("/")).doing(what)
}
