//! Changes to a host's disk before its first boot: writes the files that identify the host, and removes the original's
//! files from a copied disk.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    provider::{
        Launch,
        local::{cloud::network, failure::Doing, record::Record},
    },
};

/// A file to write before the first boot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SeedFile {
    /// Relative to the host's root.
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    /// Mode of the parent directory, if that has to be created.
    pub(super) directory_mode: u32,
    pub(super) content: Vec<u8>,
}

/// The files that identify this host.
pub(super) fn seeds(record: &Record, launch: &Launch) -> Result<Vec<SeedFile>> {
    let mut machine_id = [0; 16];
    rand::fill(&mut machine_id).doing(|| "cannot get random numbers")?;
    // Marked as a version 4 UUID; machine-id(5).
    machine_id[6] = machine_id[6] & 0x0f | 0x40;
    machine_id[8] = machine_id[8] & 0x3f | 0x80;
    let machine_id = hex::encode(machine_id);
    let Record { name, address, .. } = record;
    let public = |path: &str, content: String| SeedFile {
        path: path.into(),
        mode: 0o644,
        directory_mode: 0o755,
        content: content.into_bytes(),
    };
    let private = |name: &str, mode, content| SeedFile {
        path: Path::new("var/lib/magpie").join(name),
        mode,
        directory_mode: 0o700,
        content,
    };
    let limits = serde_json::json!({ "memory_bytes": launch.settings.memory }).to_string();
    let mut seeds = vec![
        public("etc/hostname", format!("{name}\n")),
        public("etc/hosts", format!("127.0.0.1 localhost\n{address} {name}\n")),
        public("etc/resolv.conf", format!("nameserver {}\n", network::RESOLVER)),
    ];
    // Without a document, the host's identity comes from its disk or its metadata service.
    if !launch.enrol_document.is_empty() {
        seeds.push(public("etc/machine-id", format!("{machine_id}\n")));
        // The memory limit is set from outside and not visible inside, so the agent reads this file.
        seeds.push(private("limits.json", 0o644, limits.into_bytes()));
        seeds.push(private("enrol.json", 0o600, launch.enrol_document.clone()));
    }
    Ok(seeds)
}

/// Writes one file, and replaces an existing one.
pub(super) fn write_seed(root: &Path, seed: &SeedFile) -> Result<()> {
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

/// Removes a file or directory of the original from a copied disk.
pub(super) fn forget(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.doing(|| format!("cannot remove {} in the host", path.display()))
}
