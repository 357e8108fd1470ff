//! Copies of a host's disk: for a clone, and for an image.
//!
//! A disk is the upper directory of the host's overlay: everything that the host has written over its image. It is
//! copied exactly as it is, because overlayfs stores information in it: character devices 0:0 stand for removed
//! files, and extended attributes `user.overlay.*` for directories that hide those below (kernel documentation,
//! filesystems/overlayfs.rst, "whiteouts and opaque directories"). A running host is frozen during the copy, so the
//! copy is consistent, as after a power failure.

use std::{
    fs::{DirBuilder, File},
    io::Read,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    time::SystemTime,
};

use aws_lc_rs::rand;
use nix::unistd::{chown, setsid};
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    provider::{
        Host, ImageId, Launch,
        local::{
            failure::Doing,
            inner::Inner,
            namespace::{
                cgroup::Cgroups,
                channel::Channel,
                freezer::Freezer,
                step::{Start, Step},
                tool::CP,
                tree,
                userns::{self, IdMap},
            },
            record::Record,
            state::{HostDir, held_by, lock},
        },
    },
};

/// Paths that belong to the original only: a key that waits for its certificate, and the original's runs.
const FORGET: [&str; 2] = ["var/lib/magpie/state.new", "var/lib/magpie/runs"];
/// The original's flight record.
const RECORD: &str = "var/lib/magpie/history";

impl Inner {
    /// Launches a host with a copy of another host's disk. The identity is copied too; the agent quarantines it when it
    /// detects that it is on another machine.
    pub(crate) fn clone_host(&self, original: &str, launch: &Launch, with_record: bool) -> Result<Host> {
        let image = self.whole(&self.state.host(original))?.image;
        let launch = Launch { image, ..launch.clone() };
        let forget = FORGET.into_iter().chain((!with_record).then_some(RECORD)).map(PathBuf::from).collect();
        self.create(&launch, forget, |host| {
            self.clear_disk(host)?;
            self.copy_disk(original, &host.root().join("upper"))
        })
    }

    /// Makes an image of a host's disk, including its identity, on top of the image that the host was booted from.
    pub(crate) fn capture(&self, original: &str) -> Result<ImageId> {
        let below = self.whole(&self.state.host(original))?.image;
        let mut mark = [0; 8];
        rand::fill(&mut mark).doing(|| "cannot get random numbers")?;
        let mark = hex::encode(mark);
        let id = ImageId(format!("{}-{mark}", below.0));
        let path = self.state.images().join(&id.0);
        let _turn = lock(&self.state.bake_lock())?;
        tree::in_place(&self.ctl, &IdMap::of_this_user()?, &path, |fresh| self.copy_disk(original, fresh))?;
        // The copy has the disk's time, but an image's age counts from its creation.
        let now = |directory: File| directory.set_modified(SystemTime::now());
        File::open(&path).and_then(now).doing(|| format!("cannot date {}", path.display()))?;
        Ok(id)
    }

    /// The record of a host with a complete disk.
    fn whole(&self, host: &HostDir) -> Result<Record> {
        let record = Record::read(host)?.ok_or_else(|| host.gone())?;
        if record.booted {
            return Ok(record);
        }
        Err(Error::invalid(format!("the launch of {} was interrupted: it has no disk to copy", record.name)))
    }

    /// Copies a host's disk to the directory `to`, which must not exist. The host's lock keeps other controllers from
    /// starting, stopping or destroying it during the copy.
    fn copy_disk(&self, original: &str, to: &Path) -> Result<()> {
        let host = self.state.host(original);
        let _turn = host.lock()?.ok_or_else(|| host.gone())?;
        let name = self.whole(&host)?.name;
        let freeze = match held_by(&host.running())? {
            Some(_) => Some(Cgroups::find(&self.hash)?.host(original)),
            None => None,
        };
        let map = IdMap::of_this_user()?;
        let what = || format!("cannot create {}", to.display());
        DirBuilder::new().mode(0o755).create(to).doing(what)?;
        let (uid, gid) = map.root();
        chown(to, Some(uid), Some(gid)).doing(what)?;
        // Relative, because root inside may not be able to traverse the path to the state directory.
        let relative = |path: &Path| path.strip_prefix(self.state.root()).unwrap_or(path).to_owned();
        let request = Request { from: relative(&host.root().join("upper")), to: relative(to), freeze };
        let (channel, mut child) = Start::new(&self.ctl, Step::Copy, &name).spawn(self.state.root())?;
        let copied = channel
            .send(&request)
            .and_then(|()| map.grant(&channel, child.id()))
            .and_then(|()| channel.receive());
        child.wait().doing(|| "cannot wait for the copy")?;
        copied.map_err(|error| error.context(format!("cannot copy the disk of {name}")))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    from: PathBuf,
    to: PathBuf,
    /// Cgroup of a running host.
    freeze: Option<PathBuf>,
}

/// The step itself. This process freezes and thaws the host, so that the host goes on even if the calling `ctl` is
/// killed.
pub(crate) fn copy(channel: &Channel) -> Result<()> {
    let request: Request = channel.receive()?;
    setsid().doing(|| "cannot leave the terminal")?;
    let freezer = request.freeze.as_deref().map(Freezer::open).transpose()?;
    userns::enter_new(channel)?;
    let frozen = freezer.map(Freezer::freeze).transpose()?;
    let output = start(&request).and_then(|child| watch(child, channel))?;
    drop(frozen);
    CP.check(&output)?;
    channel.send(())
}

/// Starts cp, which keeps hard links, owners, times, access lists, extended attributes, holes and special files.
fn start(request: &Request) -> Result<Child> {
    CP.command()
        .args(["--recursive", "--no-dereference", "--no-target-directory", "--reflink=auto"])
        .arg("--preserve=mode,ownership,timestamps,links,xattr")
        .args([&request.from, &request.to])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| CP.not_started(&error))
}

/// Waits for the child; kills it when the other end of the channel is closed.
fn watch(mut child: Child, channel: &Channel) -> Result<Output> {
    let what = || "cannot wait for cp";
    let asker = channel.try_clone()?.into_stream();
    let mut said = child.stderr.take().ok_or_else(|| Error::unreachable(what()))?;
    let (mut stderr, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let mut watched = [PollFd::new(&said, PollFlags::IN), PollFd::new(&asker, PollFlags::IN)];
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.doing(what)?,
        };
        let (spoke, left) = (!watched[0].revents().is_empty(), !watched[1].revents().is_empty());
        if left {
            child.kill().doing(|| "cannot kill cp")?;
            break;
        }
        if spoke {
            match said.read(&mut buffer).doing(what)? {
                0 => break,
                count => stderr.extend(&buffer[..count]),
            }
        }
    }
    let status = child.wait().doing(what)?;
    Ok(Output { status, stdout: Vec::new(), stderr })
}
