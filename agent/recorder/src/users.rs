//! Names of users, from the host's own password file, which is read again when it changes.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Identifies a version of the file.
type Version = (u64, i64, i64, u64);

/// The host's users.
#[derive(Debug, Default)]
pub(super) struct Users(HashMap<u32, Arc<str>>);

impl Users {
    /// The user's name; `None` if the host has no such user.
    pub(super) fn name(&self, uid: u32) -> Option<Arc<str>> {
        self.0.get(&uid).cloned()
    }
}

/// The host's password file.
#[derive(Debug)]
pub(super) struct PasswordFile {
    path: PathBuf,
    version: Option<Version>,
}

impl PasswordFile {
    /// The file may be missing.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), version: None }
    }

    /// All users, if the file has changed since the last call.
    pub(super) fn changed(&mut self) -> Option<Users> {
        let version = fs::metadata(&self.path)
            .ok()
            .map(|metadata| (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()));
        if version == self.version {
            return None;
        }
        self.version = version;
        Some(fs::read(&self.path).map(|bytes| parse(&bytes)).unwrap_or_default())
    }
}

/// Parses passwd(5). Like getpwuid(3), uses the first line for a uid.
fn parse(bytes: &[u8]) -> Users {
    let mut names = HashMap::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(uid))) = (fields.next(), fields.nth(1).map(str::parse)) {
            names.entry(uid).or_insert_with(|| Arc::from(name));
        }
    }
    Users(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passwd");
        let mut file = PasswordFile::new(&path);
        assert!(file.changed().is_none());
        fs::write(
            &path,
            "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:\nalias:x:33:33::/:\nbroken\n",
        )
        .unwrap();
        let users = file.changed().unwrap();
        assert!(file.changed().is_none());
        assert_eq!((users.name(33).as_deref(), users.name(34)), (Some("www-data"), None));
        fs::remove_file(&path).unwrap();
        assert_eq!(file.changed().unwrap().name(33), None);
    }
}
