//! Runs a program of an image in throw-away namespaces; files that it writes are lost.

use std::{
    fs::{self},
    os::unix::{
        fs::MetadataExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output, Stdio},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::chdir,
};
use serde::{Deserialize, Serialize};

use super::{
    channel::Channel,
    devices::{self, Nodes},
    mounts,
    step::{Start, Step, THIS_PROGRAM},
    userns::{self, IdMap},
};
use crate::{
    error::{Error, Result},
    provider::local::{failure::Doing, state::StateDir},
};

#[derive(Debug, Serialize, Deserialize)]
struct Run {
    layers: Vec<PathBuf>,
    tree: PathBuf,
    argv: Vec<String>,
}

/// Runs a program of an image with `tree` read-only at /mnt, without network or access to the rest of the machine.
/// Files that it writes are lost.
pub(crate) fn run_in(
    state: &StateDir,
    ctl: &Path,
    map: &IdMap,
    layers: Vec<PathBuf>,
    tree: &Path,
    argv: &[&str],
) -> Result<Output> {
    let what = || format!("cannot run {} in the image", argv.first().unwrap_or(&"nothing"));
    let tree = tree.canonicalize().doing(|| format!("cannot find {}", tree.display()))?;
    let mode = fs::metadata(&tree).doing(|| format!("cannot inspect {}", tree.display()))?.mode();
    if *map == IdMap::Fixed && mode & 0o005 != 0o005 {
        return Err(Error::invalid(format!("{} has mode {:o}", tree.display(), mode & 0o7777))
            .hint("root in the image is another user on this machine: chmod 755 the directory"));
    }
    let mut start = Start::new(ctl, Step::Run, "program");
    (start.stdout, start.log) = (Stdio::piped(), Stdio::piped());
    let (channel, child) = start.spawn(state.root())?;
    let argv = argv.iter().map(ToString::to_string).collect();
    let pid = child.id();
    let started = channel
        .send(&Run { layers, tree, argv })
        .and_then(|()| map.grant(&channel, pid))
        .and_then(|()| channel.receive::<()>());
    let output = child.wait_with_output().doing(what)?;
    started.map_err(|error| error.context(what()))?;
    let status: i32 = channel.receive().map_err(|error| error.context(what()))?;
    Ok(Output { status: ExitStatus::from_raw(status), ..output })
}

/// The step itself: creates the namespaces, and waits for the program.
pub(crate) fn run(channel: &Channel) -> Result<()> {
    let request: Run = channel.receive()?;
    let map = IdMap::of_this_user()?;
    // Root can reach the tree only outside the user namespace; an ordinary user can mount only inside.
    if map == IdMap::Fixed {
        show_tree(&request.tree)?;
    }
    let nodes = Nodes::make(&map)?;
    userns::enter_new(channel)?;
    if map == IdMap::Fixed {
        new_mounts()?;
    } else {
        show_tree(&request.tree)?;
    }
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS,
    )
    .doing(|| "this machine refuses namespaces")?;
    let mut start = Start::new(Path::new(THIS_PROGRAM), Step::RunInside, "program");
    (start.stdout, start.log) = (Stdio::inherit(), Stdio::inherit());
    let (inside, mut child) = start.spawn(Path::new("."))?;
    let started = inside.send(&request).and_then(|()| nodes.send(&inside)).and_then(|()| inside.replaced());
    if started.is_ok() {
        channel.send(())?;
    }
    let status = child.wait().doing(|| "cannot wait for the program")?;
    started?;
    channel.send(status.into_raw())
}

fn new_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).doing(|| "this machine refuses a mount namespace")?;
    mounts::private_mounts()
}

fn show_tree(tree: &Path) -> Result<()> {
    new_mounts()?;
    mount(Some(tree), "scratch/tree", None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .doing(|| format!("cannot show {} to the image", tree.display()))
}

/// The first process of the program's process namespace; becomes the program.
pub(crate) fn run_inside(channel: &Channel) -> Result<()> {
    let request: Run = channel.receive()?;
    let nodes = Nodes::receive(channel)?;
    new_mounts()?;
    let scratch = Path::new("scratch/root");
    mounts::mount_new("tmpfs", scratch, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))?;
    let [upper, work, root] = ["upper", "work", "root"].map(|name| scratch.join(name));
    for path in [&upper, &work, &root] {
        fs::create_dir(path).doing(|| "cannot lay out a throw-away root file system")?;
    }
    mounts::mount_overlay(&request.layers, &upper, &work, &root)?;
    mounts::mount_kernel(&root)?;
    drop(devices::lay_out(&root, nodes)?);
    mounts::bind_read_only(
        Path::new("scratch/tree"),
        &root.join("mnt"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
    )
    .doing(|| "cannot show the tree to the image")?;
    mounts::enter(&root)?;
    chdir("/mnt").doing(|| "cannot enter /mnt")?;
    let (program, arguments) =
        request.argv.split_first().ok_or_else(|| Error::invalid("no program to run"))?;
    let cause = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null())
        .exec();
    Err(Error::invalid(format!("cannot run {program}: {cause}")))
}
