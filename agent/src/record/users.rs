//! Names of users, from the host's own password file, read again when it has changed.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What tells one version of the file from the next.
type Version = (u64, i64, i64, u64);

/// The host's users.
#[derive(Debug)]
pub(super) struct Users {
    path: PathBuf,
    version: Option<Version>,
    names: HashMap<u32, Arc<str>>,
}

impl Users {
    /// For this password file, which need not exist.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), version: None, names: HashMap::new() }
    }

    /// Reads the file again if it has changed; true if it has.
    pub(super) fn refresh(&mut self) -> bool {
        let version = fs::metadata(&self.path)
            .ok()
            .map(|metadata| (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()));
        if version == self.version {
            return false;
        }
        self.version = version;
        self.names = fs::read(&self.path).map(|bytes| parse(&bytes)).unwrap_or_default();
        true
    }

    /// The user's name, if the file has one.
    pub(super) fn name(&self, uid: u32) -> Option<Arc<str>> {
        self.names.get(&uid).cloned()
    }
}

/// Parses passwd(5). As for getpwuid(3), the first line of a uid counts.
fn parse(bytes: &[u8]) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::new();
    for line in String::from_utf8_lossy(bytes).lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(uid))) = (fields.next(), fields.nth(1).map(str::parse)) {
            names.entry(uid).or_insert_with(|| Arc::from(name));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passwd");
        let mut users = Users::new(&path);
        users.refresh();
        assert_eq!(users.name(33), None);
        fs::write(
            &path,
            "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:\nalias:x:33:33::/:\nbroken\n",
        )
        .unwrap();
        assert!(users.refresh());
        assert!(!users.refresh());
        assert_eq!(users.name(33).as_deref(), Some("www-data"));
    }
}
