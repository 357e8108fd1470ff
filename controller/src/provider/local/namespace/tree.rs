//! Directory trees whose files are owned by ids inside. A process in a throw-away user namespace unpacks and removes
//! them.

use std::{
    fs::{self, DirBuilder},
    os::{
        fd::OwnedFd,
        unix::{fs::DirBuilderExt, net::UnixStream},
    },
    path::Path,
    process::Stdio,
};

use nix::unistd::chown;

use super::{
    channel::Channel,
    step::{Start, Step},
    tool::TAR,
    userns::{self, IdMap},
};
use crate::{error::Result, provider::local::failure::Doing};

/// Creates `directory` and unpacks the tar stream from `write` into it, with its numeric owners.
///
/// `write` gets one end of a socket, to write to or to pass to a child process.
pub(crate) fn unpack_into(
    ctl: &Path,
    map: &IdMap,
    directory: &Path,
    write: impl FnOnce(UnixStream) -> Result<()>,
) -> Result<()> {
    let what = || format!("cannot create {}", directory.display());
    DirBuilder::new().mode(0o755).create(directory).doing(what)?;
    let (uid, gid) = map.root();
    chown(directory, Some(uid), Some(gid)).doing(what)?;
    let (channel, mut child) = Start::new(ctl, Step::Unpack, "image").spawn(directory)?;
    let done = map.grant(&channel, child.id()).and_then(|()| {
        let stream = channel.try_clone()?.into_stream();
        let written = write(stream.try_clone().doing(|| "cannot duplicate a socket")?);
        stream.shutdown(std::net::Shutdown::Write).doing(|| "cannot finish the image")?;
        let unpacked = channel.receive();
        written.and(unpacked)
    });
    if done.is_err() {
        drop(child.kill());
    }
    child.wait().doing(|| "cannot wait for tar")?;
    done
}

/// The step itself. Skips /dev: device nodes cannot be created in a user namespace, and /dev is set up at boot.
pub(crate) fn unpack(channel: &Channel) -> Result<()> {
    userns::enter_new(channel)?;
    let output = TAR
        .command()
        .args(["--extract", "--preserve-permissions", "--numeric-owner", "--exclude=./dev/*"])
        .args(["--xattrs", "--xattrs-include=security.capability", "--file=-"])
        .stdin(OwnedFd::from(channel.try_clone()?))
        .stdout(Stdio::null())
        .output()
        .map_err(|error| TAR.not_started(&error))?;
    TAR.check(&output)?;
    channel.send(())
}

/// Removes a tree in the state directory, whoever owns its files. No-op if it is missing.
pub(crate) fn remove_tree(ctl: &Path, map: &IdMap, tree: &Path) -> Result<()> {
    let what = || format!("cannot remove {}", tree.display());
    if !tree.exists() {
        return Ok(());
    }
    if *map == IdMap::Fixed {
        return fs::remove_dir_all(tree).doing(what);
    }
    let (channel, mut child) = Start::new(ctl, Step::Remove, "tree").spawn(tree)?;
    let done = map.grant(&channel, child.id()).and_then(|()| channel.receive());
    child.wait().doing(what)?;
    done.and_then(|()| fs::remove_dir_all(tree).doing(what))
}

/// The step itself: empties the working directory.
pub(crate) fn remove(channel: &Channel) -> Result<()> {
    userns::enter_new(channel)?;
    let what = || "cannot empty a directory";
    for entry in fs::read_dir(".").doing(what)? {
        let entry = entry.doing(what)?;
        if entry.file_type().doing(what)?.is_dir() {
            fs::remove_dir_all(entry.path()).doing(what)?;
        } else {
            fs::remove_file(entry.path()).doing(what)?;
        }
    }
    channel.send(())
}

/// Lets `make` fill a temporary directory beside `path`, and renames it when it is complete. First removes what an
/// interrupted bake left there. The caller holds the bake lock.
pub(crate) fn in_place(
    ctl: &Path,
    map: &IdMap,
    path: &Path,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let fresh = path.with_extension("new");
    remove_tree(ctl, map, &fresh)?;
    if let Err(error) = make(&fresh) {
        remove_tree(ctl, map, &fresh)?;
        return Err(error);
    }
    fs::rename(&fresh, path).doing(|| format!("cannot rename {}", fresh.display()))
}
