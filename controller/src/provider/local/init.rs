//! From the first process of a host's process namespace to its systemd.
//!
//! What systemd expects to find is in systemd.io/CONTAINER_INTERFACE. Nothing of the machine is handed in but
//! six device nodes, read-only and by way of a user namespace that owns none of them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    net::Ipv4Addr,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
            process::CommandExt,
        },
    },
    path::{Component, Path, PathBuf},
    process::Command,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::{prctl, signal::Signal},
    unistd::{chdir, pivot_root, sethostname, setsid},
};
use rustix::pty::unlockpt;
use serde::{Deserialize, Serialize};

use super::{channel::Channel, failure::Doing, network, tool::IP};
use crate::error::{Error, Result};

/// Where Debian and Ubuntu have it.
const SYSTEMD: &str = "/lib/systemd/systemd";

/// What to boot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) id: String,
    pub(super) hostname: String,
    pub(super) address: Ipv4Addr,
    pub(super) layers: Vec<PathBuf>,
    pub(super) seeds: Vec<SeedFile>,
    /// Name of the host's port on the bridge.
    pub(super) port: String,
}

/// A file to write into the host before its first boot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SeedFile {
    /// Relative to the host's root.
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    /// Mode of the directory it is in, if that has to be made.
    pub(super) directory_mode: u32,
    pub(super) content: Vec<u8>,
}

/// Becomes the host's init. Returns only on failure; the caller reports it and ends, and the host with it.
pub(super) fn init(channel: &Channel) -> Result<()> {
    let request: Request = channel.receive()?;
    // No supervisor, no host.
    prctl::set_pdeathsig(Signal::SIGKILL).doing(|| "cannot tie the host to its supervisor")?;
    for door in channel.receive_files()? {
        File::from(door).write_all(b"0").doing(|| "cannot join the host's cgroup")?;
    }
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
    for seed in &request.seeds {
        write_seed(&root, seed)?;
    }
    mount_kernel(&root)?;
    mount_cgroups(&root)?;
    let (master, slave) = mount_devices(&root)?;
    restrict_proc(&root)?;
    enter(&root)?;
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
pub(super) fn private_mounts() -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .doing(|| "cannot keep mounts private")
}

/// Mounts `layers` with a writable layer on top. All paths are relative to the working directory, which may
/// be somewhere that root inside could not walk to.
pub(super) fn mount_overlay(layers: &[PathBuf], upper: &Path, work: &Path, root: &Path) -> Result<()> {
    let lower: Vec<_> = layers.iter().map(|layer| layer.display().to_string()).collect();
    let options = format!(
        "userxattr,lowerdir={},upperdir={},workdir={}",
        lower.join(":"),
        upper.display(),
        work.display()
    );
    mount(Some("overlay"), root, Some("overlay"), MsFlags::empty(), Some(options.as_str())).map_err(|errno| {
        let error = Error::invalid(format!("cannot mount the host's root file system with overlayfs: {errno}"));
        match errno {
            nix::errno::Errno::ENODEV => error.hint("the kernel lacks overlayfs: modprobe overlay"),
            nix::errno::Errno::EINVAL => error
                .hint("the state directory may be on a file system that cannot carry one (an overlay itself, NFS): choose another")
                .hint("overlayfs in a user namespace needs Linux 5.11 or newer"),
            _ => error.hint("overlayfs in a user namespace needs Linux 5.11 or newer"),
        }
    })
}

/// Writes one file through the mounted root. Directories in the way that are symbolic links are refused.
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

fn flags() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV
}

pub(super) fn mount_new(kind: &str, target: &Path, flags: MsFlags, options: Option<&str>) -> Result<()> {
    mount(Some(kind), target, Some(kind), flags, options)
        .doing(|| format!("cannot mount {kind} at {}", target.display()))
}

/// /proc, /sys, /run and /tmp.
pub(super) fn mount_kernel(root: &Path) -> Result<()> {
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

/// /dev with six nodes, its own pseudo-terminals, and the first of these as the console.
pub(super) fn mount_devices(root: &Path) -> Result<(OwnedFd, OwnedFd)> {
    let dev = root.join("dev");
    let what = || "cannot lay out /dev";
    mount_new("tmpfs", &dev, MsFlags::MS_NOSUID, Some("mode=755,size=64m"))?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        bind_device(&Path::new("/dev").join(name), &dev.join(name))?;
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

/// The machine's node, read-only: its owner and mode cannot be changed from inside, only read and written.
fn bind_device(node: &Path, target: &Path) -> Result<()> {
    let what = || format!("cannot give the host {}", node.display());
    File::create(target).doing(what)?;
    bind_read_only(node, target, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC).doing(what)
}

/// A bind mount takes its flags from a second, re-mounting call only (mount(2)).
pub(super) fn bind_read_only(source: &Path, target: &Path, more: MsFlags) -> nix::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | more;
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
}

/// A terminal of the host's own devpts, bound to /dev/console. Neither end becomes anybody's controlling
/// terminal, so that a hang-up inside concerns nobody outside.
fn open_console(dev: &Path) -> Result<(OwnedFd, OwnedFd)> {
    let what = || "cannot make the host's console";
    let open = |path: &Path| {
        OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(path).doing(what)
    };
    let master = open(&dev.join("pts/ptmx"))?;
    unlockpt(&master).doing(what)?;
    // The first terminal of a new instance.
    let slave_path = dev.join("pts/0");
    let slave = open(&slave_path)?;
    let console = dev.join("console");
    File::create(&console).doing(what)?;
    mount(Some(&slave_path), &console, None::<&str>, MsFlags::MS_BIND, None::<&str>).doing(what)?;
    Ok((master.into(), slave.into()))
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
pub(super) fn enter(root: &Path) -> Result<()> {
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
