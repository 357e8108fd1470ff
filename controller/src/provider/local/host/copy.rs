//! Copies of a host's disk: for another host that begins where this one is now, and for an image.
//!
//! A disk is what the host has written over its image: the upper directory of its overlay. It is copied as it
//! lies there, because the kernel keeps meaning in what looks like junk: character devices 0:0 stand for what was
//! removed, and extended attributes `user.overlay.*` for directories that hide those below (kernel documentation,
//! filesystems/overlayfs.rst, "whiteouts and opaque directories"). A running host is frozen meanwhile, so that
//! the copy is of one moment, as after a power failure.

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

/// What is the original's alone: a key that waits for its certificate, and runs that the copy never made.
const FORGET: [&str; 2] = ["var/lib/magpie/state.new", "var/lib/magpie/runs"];
/// The original's flight record.
const RECORD: &str = "var/lib/magpie/history";

impl Inner {
    /// Launches a host whose disk is a copy of another's. Its identity is copied too, and quarantined by the
    /// agent when it finds itself on another machine.
    pub(crate) fn clone_host(&self, original: &str, launch: &Launch, with_record: bool) -> Result<Host> {
        let image = self.whole(&self.state.host(original))?.image;
        let launch = Launch { image, ..launch.clone() };
        let forget = FORGET.into_iter().chain((!with_record).then_some(RECORD)).map(PathBuf::from).collect();
        self.create(&launch, forget, |host| {
            self.clear_disk(host)?;
            self.copy_disk(original, &host.root().join("upper"))
        })
    }

    /// Makes an image of a host's disk as it is, identity and all, on top of the image that it was booted from.
    pub(crate) fn capture(&self, original: &str) -> Result<ImageId> {
        let below = self.whole(&self.state.host(original))?.image;
        let mut mark = [0; 8];
        rand::fill(&mut mark).doing(|| "the machine has no random numbers")?;
        let mark = hex::encode(mark);
        let id = ImageId(format!("{}-{mark}", below.0));
        let path = self.state.images().join(&id.0);
        let _turn = lock(&self.state.bake_lock())?;
        tree::in_place(&self.ctl, &IdMap::of_this_user()?, &path, |fresh| self.copy_disk(original, fresh))?;
        // The copy has the time of the disk; an image's age is counted from its making.
        let now = |directory: File| directory.set_modified(SystemTime::now());
        File::open(&path).and_then(now).doing(|| format!("cannot date {}", path.display()))?;
        Ok(id)
    }

    /// The record of a host that has a disk.
    fn whole(&self, host: &HostDir) -> Result<Record> {
        let record = Record::read(host)?.ok_or_else(|| host.gone())?;
        if record.booted {
            return Ok(record);
        }
        Err(Error::invalid(format!("the launch of {} was interrupted: it has no disk to copy", record.name)))
    }

    /// Copies a host's disk to the directory `to`, which must not be there. The host is neither started nor
    /// stopped nor destroyed meanwhile.
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
        // Relative, since root inside may not be able to walk to the state directory.
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
    /// Cgroup of a host that runs.
    freeze: Option<PathBuf>,
}

/// The other side. It freezes and thaws, so that a host goes on even if the `ctl` that asked is killed.
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

/// Hard links, owners, times, access lists, extended attributes, holes, special files: all as they are.
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

/// Waits for the child; ends it when nobody is left at the other end of the channel.
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
            child.kill().doing(|| "cannot end cp")?;
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
