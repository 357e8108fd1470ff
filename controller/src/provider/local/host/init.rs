//! From the first process of a host's process namespace to its systemd.
//!
//! What systemd expects to find is in systemd.io/CONTAINER_INTERFACE.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    net::Ipv4Addr,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
            process::CommandExt,
        },
    },
    path::{Component, Path, PathBuf},
    process::Command,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::{
        prctl,
        signal::Signal,
        statfs::{FUSE_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, statfs},
    },
    unistd::{chdir, pivot_root, sethostname, setsid},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    provider::local::{
        cloud::network,
        failure::Doing,
        namespace::{
            channel::Channel,
            devices::{self, Nodes},
            tool::IP,
        },
    },
};

/// Where Debian and Ubuntu have it.
const SYSTEMD: &str = "/lib/systemd/systemd";

/// What to boot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) hostname: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) forget: Vec<PathBuf>,
    pub(crate) seeds: Vec<SeedFile>,
    /// Its memory is charged to a control group of version 1.
    pub(crate) memory_in_v1: bool,
    /// Name of the host's port on the bridge.
    pub(crate) port: String,
}

/// A file to write into the host before its first boot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SeedFile {
    /// Relative to the host's root.
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    /// Mode of the directory it is in, if that has to be made.
    pub(crate) directory_mode: u32,
    pub(crate) content: Vec<u8>,
}

/// Becomes the host's init. Returns only on failure; the caller reports it and ends, and the host with it.
pub(crate) fn init(channel: &Channel) -> Result<()> {
    let request: Request = channel.receive()?;
    // No supervisor, no host.
    prctl::set_pdeathsig(Signal::SIGKILL).doing(|| "cannot tie the host to its supervisor")?;
    for door in channel.receive_files()? {
        File::from(door).write_all(b"0").doing(|| "cannot join the host's cgroup")?;
    }
    let nodes = Nodes::receive(channel)?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .doing(|| "this machine refuses namespaces")?;
    sethostname(&request.hostname).doing(|| "cannot set the host's name")?;
    connect(request.address, &request.port)?;

    private_mounts()?;
    let host = PathBuf::from("hosts").join(&request.id);
    let root = host.join("root");
    mount_overlay(&request.layers, &host.join("upper"), &host.join("work"), &root)?;
    mount_kernel(&root)?;
    mount_cgroups(&root)?;
    if request.memory_in_v1 {
        mount_memory_counters(&root)?;
    }
    let (master, slave) = devices::lay_out(&root, nodes)?;
    restrict_proc(&root)?;
    enter(&root)?;
    // From here on a symbolic link of a copied disk leads nowhere but into the host.
    for path in &request.forget {
        forget(&Path::new("/").join(path))?;
    }
    for seed in &request.seeds {
        write_seed(Path::new("/"), seed)?;
    }
    channel.send(())?;
    channel.send_files(&[master.as_fd(), slave.as_fd()])?;
    drop(master);
    Err(Error::invalid(format!("cannot start {SYSTEMD} of the image: {}", become_systemd(&slave)?)))
}

/// Gives this process a network namespace of its own, plugged into the bridge of the one it came from.
fn connect(address: Ipv4Addr, port: &str) -> Result<()> {
    let here = || File::open("/proc/self/ns/net").doing(|| "cannot open the network namespace");
    let cloud = here()?;
    unshare(CloneFlags::CLONE_NEWNET).doing(|| "this machine refuses a network namespace")?;
    let host = here()?;
    fcntl(&cloud, FcntlArg::F_SETFD(FdFlag::empty())).doing(|| "cannot pass on a namespace")?;
    let cloud_path = format!("/proc/self/fd/{}", cloud.as_raw_fd());
    IP.run(&["-batch", "-"], &network::host_side(address, port, &cloud_path))?;
    setns(&cloud, CloneFlags::CLONE_NEWNET).doing(|| "cannot return to the cloud's network")?;
    IP.run(&["-batch", "-"], &network::cloud_side(port))?;
    setns(&host, CloneFlags::CLONE_NEWNET).doing(|| "cannot enter the host's network")
}

/// Keeps what is mounted from now on from everybody else.
pub(crate) fn private_mounts() -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .doing(|| "cannot keep mounts private")
}

/// Mounts `layers` with a writable layer on top. All paths are relative to the working directory, which may
/// be somewhere that root inside could not walk to.
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
            "the state directory {} is on {kind}, which cannot carry the hosts' disks ({errno})",
            state.display()
        ))
        .hint("name a directory on ext4, xfs or btrfs: `state = \"…\"` in [local] of magpie.toml")
        .hint("in a container: a volume, not the container's own file system"),
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

/// Removes what the disk has from the host that it was copied from.
fn forget(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.doing(|| format!("cannot remove {} in the host", path.display()))
}

/// Writes one file of the host, in place of whatever has its name.
fn write_seed(root: &Path, seed: &SeedFile) -> Result<()> {
    let path = root.join(&seed.path);
    let what = || format!("cannot write /{} in the host", seed.path.display());
    if seed.path.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(Error::invalid(format!("{}: not a path inside the host", what())));
    }
    if let Some(parent) = path.parent()
        && !parent.exists()
    {
        DirBuilder::new().recursive(true).mode(seed.directory_mode).create(parent).doing(what)?;
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).doing(what),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(seed.mode).open(&path).doing(what)?;
    file.write_all(&seed.content).doing(what)?;
    file.set_permissions(Permissions::from_mode(seed.mode)).doing(what)
}

pub(crate) fn flags() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV
}

pub(crate) fn mount_new(kind: &str, target: &Path, flags: MsFlags, options: Option<&str>) -> Result<()> {
    mount(Some(kind), target, Some(kind), flags, options)
        .doing(|| format!("cannot mount {kind} at {}", target.display()))
}

/// /proc, /sys, /run and /tmp.
pub(crate) fn mount_kernel(root: &Path) -> Result<()> {
    let still = flags() | MsFlags::MS_NOEXEC;
    let masked = |error: Error| {
        error
            .hint("inside a container, /proc and /sys must be whole, with nothing mounted over parts of them")
    };
    mount_new("proc", &root.join("proc"), still, None).map_err(masked)?;
    mount_new("sysfs", &root.join("sys"), still | MsFlags::MS_RDONLY, None).map_err(masked)?;
    mount_new("tmpfs", &root.join("run"), flags(), Some("mode=755"))?;
    mount_new("tmpfs", &root.join("tmp"), flags(), Some("mode=1777"))
}

/// The host's own part of the cgroup2 tree, and no more: the cgroup namespace sees to that.
fn mount_cgroups(root: &Path) -> Result<()> {
    mount_new("cgroup2", &root.join("sys/fs/cgroup"), flags() | MsFlags::MS_NOEXEC, None)
}

/// The host's own part of the memory controller's tree, to read: its recorder finds its kills and what it uses there. Not
/// below /sys/fs/cgroup, where a directory would be a control group of the host.
fn mount_memory_counters(root: &Path) -> Result<()> {
    let target = root.join("run/host/cgroup/memory");
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&target)
        .doing(|| format!("cannot create {}", target.display()))?;
    mount_new("cgroup", &target, flags() | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY, Some("memory"))
}

/// A bind mount takes its flags from a second, re-mounting call only (mount(2)).
pub(crate) fn bind_read_only(source: &Path, target: &Path, more: MsFlags) -> nix::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | more;
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
}

/// Processes inside may read the whole machine's settings but change only those of their own network.
fn restrict_proc(root: &Path) -> Result<()> {
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

/// Makes `root` the root and lets go of the old one; see pivot_root(2), "pivot_root(".", ".")".
pub(crate) fn enter(root: &Path) -> Result<()> {
    let what = || "cannot enter the host's root file system";
    chdir(root).and_then(|()| pivot_root(".", ".")).doing(what)?;
    umount2(".", MntFlags::MNT_DETACH).and_then(|()| chdir("/")).doing(what)
}

/// Replaces this process. What it returns is the failure.
fn become_systemd(console: &OwnedFd) -> Result<io::Error> {
    setsid().doing(|| "cannot lead a session")?;
    let copy = || console.try_clone().doing(|| "cannot duplicate the console");
    Ok(Command::new(SYSTEMD)
        .env_clear()
        .env("container", "magpie")
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TERM", "dumb")
        .stdin(copy()?)
        .stdout(copy()?)
        .stderr(copy()?)
        .exec())
}
