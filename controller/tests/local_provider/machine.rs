//! What of the machine must be the same before and after.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use controller::provider::Host;

/// All of the machine that a local host might touch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) mounts: String,
    pub(crate) links: String,
    pub(crate) routes: String,
    pub(crate) rules: String,
    pub(crate) forwarding: String,
    pub(crate) cgroups: BTreeSet<PathBuf>,
    pub(crate) state: BTreeSet<PathBuf>,
    /// At home in the state directory: supervisors and holders.
    pub(crate) processes: usize,
    pub(crate) null: u32,
}

impl Machine {
    /// All but the directories of a host that goes on living, and so changes them.
    pub(crate) fn without(mut self, host: &Host) -> Self {
        for paths in [&mut self.cgroups, &mut self.state] {
            paths.retain(|path| !path.iter().any(|part| *part == *host.id));
        }
        self
    }

    pub(crate) fn now(state: &Path) -> Self {
        let run = |program: &str, arguments: &[&str]| {
            String::from_utf8(Command::new(program).args(arguments).output().unwrap().stdout).unwrap()
        };
        let mut cgroups = BTreeSet::new();
        list(Path::new("/sys/fs/cgroup"), &mut cgroups);
        // Others on this machine make cgroups of their own; ours are named after the state directory.
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, state.as_os_str().as_encoded_bytes());
        let name: String = sum.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        cgroups.retain(|path| path.to_string_lossy().contains(&name));
        let mut files = BTreeSet::new();
        list(&state.join("hosts"), &mut files);
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cwd"));
        let processes = processes.filter(|cwd| fs::read_link(cwd).is_ok_and(|cwd| cwd == state)).count();
        Self {
            processes,
            mounts: fs::read_to_string("/proc/mounts").unwrap(),
            links: run("ip", &["-brief", "link"]),
            routes: run("ip", &["route"]),
            rules: run("nft", &["list", "ruleset"]),
            forwarding: fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(),
            cgroups,
            state: files,
            null: fs::metadata("/dev/null").unwrap().mode(),
        }
    }
}

/// All directories below `path`.
fn list(path: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), found);
            found.insert(entry.path());
        }
    }
}
