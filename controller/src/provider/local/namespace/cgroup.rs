//! Control groups: a cgroup2 group for each host, which its systemd divides further, and a memory limit that the host
//! cannot raise, in cgroup2 or (on a hybrid machine) in the v1 memory controller.
//!
//! ```text
//! <parent>/magpie-<hash of the state directory>/cloud     holder, slirp4netns, supervisors
//! <parent>/magpie-<hash of the state directory>/<id>      a host: delegated, so that nothing else is writable
//! ```
//!
//! Kernel documentation: admin-guide/cgroup-v2.rst ("Delegation", "No Internal Process Constraint") and
//! admin-guide/cgroup-v1/memory.rst.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use nix::unistd::{chown, geteuid};

use super::{
    cgroup_tree::{create, delegated, parse_mountinfo, remove_empty, write},
    userns::IdMap,
};
use crate::{
    error::{Error, Result},
    provider::local::failure::Doing,
};

/// Name of the cgroup for the cloud's own processes.
const CLOUD: &str = "cloud";
/// Controllers that a host's systemd can use.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];

/// The cgroups of one state directory.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    /// Group in the cgroup2 tree.
    unified: PathBuf,
    /// Group in the v1 memory tree, if memory is limited there.
    memory: Option<PathBuf>,
}

impl Cgroups {
    /// The cgroups of the state directory with this hash. Creates nothing.
    pub(crate) fn find(hash: &str) -> Result<Self> {
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").doing(|| "cannot read /proc/self/mountinfo")?;
        let trees = parse_mountinfo(&mounts);
        let unified = trees.unified.ok_or_else(|| {
            Error::invalid("cgroup2 is not mounted on this machine; systemd in a host needs it")
                .hint("mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified")
        })?;
        let name = format!("magpie-{hash}");
        if geteuid().is_root() {
            return Ok(Self {
                unified: unified.join(&name),
                memory: trees.memory.map(|tree| tree.join(&name)),
            });
        }
        let own = fs::read_to_string("/proc/self/cgroup").doing(|| "cannot read /proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        Ok(Self { unified: delegated(&unified, &unified.join(own))?.join(name), memory: None })
    }

    /// A host's cgroup.
    pub(crate) fn host(&self, id: &str) -> PathBuf {
        self.unified.join(id)
    }

    fn host_memory(&self, id: &str) -> Option<PathBuf> {
        Some(self.memory.as_ref()?.join(id))
    }

    /// Whether a host's memory is charged in the v1 tree, and so missing from its cgroup2.
    pub(crate) fn charges_in_v1(&self, id: &str) -> bool {
        self.host_memory(id).is_some_and(|group| group.exists())
    }

    /// Creates the cloud's own cgroup and moves this process into it, out of the session that started it.
    pub(crate) fn join_cloud(&self) -> Result<()> {
        let cloud = self.unified.join(CLOUD);
        create(&cloud)?;
        write(&cloud.join("cgroup.procs"), "0")
    }

    /// Creates a host's cgroups, sets their limits, and opens the files through which its init will join them.
    ///
    /// The kernel checks a write to `cgroup.procs` against the process that opened the file, so root inside may use
    /// these.
    pub(crate) fn create_host(&self, id: &str, memory: Option<u64>, map: &IdMap) -> Result<Vec<File>> {
        let group = self.host(id);
        create(&group)?;
        let mut doors = vec![group.join("cgroup.procs")];
        let (uid, gid) = map.root();
        for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            let path = group.join(name);
            chown(&path, Some(uid), Some(gid)).doing(|| format!("cannot delegate {}", path.display()))?;
        }
        self.offer_controllers()?;
        if group.join("memory.max").exists() {
            limit_unified(&group, memory)?;
        } else if let Some(old) = self.host_memory(id) {
            create(&old)?;
            limit_v1(&old, memory)?;
            doors.push(old.join("cgroup.procs"));
        } else if memory.is_some() {
            return Err(Error::invalid("memory cannot be limited here: the controller is not delegated")
                .hint("start without a memory limit, or run ctl as root"));
        }
        doors.iter().map(|door| open_door(door)).collect()
    }

    /// Enables the controllers for the hosts, as far as this machine offers them in cgroup2.
    fn offer_controllers(&self) -> Result<()> {
        let control = self.unified.join("cgroup.subtree_control");
        let offered = fs::read_to_string(self.unified.join("cgroup.controllers")).unwrap_or_default();
        for controller in offered.split_whitespace().filter(|name| CONTROLLERS.contains(name)) {
            write(&control, &format!("+{controller}"))?;
        }
        Ok(())
    }

    /// Out-of-memory kills in a host; `None` if there is no counter.
    pub(crate) fn oom_kills(&self, id: &str) -> Option<u64> {
        let counters = [
            Some(self.host(id).join("memory.events")),
            self.host_memory(id).map(|group| group.join("memory.oom_control")),
        ];
        let text = counters.into_iter().flatten().find_map(|path| fs::read_to_string(path).ok())?;
        parse_oom_kills(&text)
    }

    /// Whether a host's cgroup still exists.
    pub(crate) fn knows_host(&self, id: &str) -> bool {
        self.host(id).exists()
    }

    /// Removes a host's cgroups, and waits until their last process has exited. The supervisor has exited, so the
    /// kernel is already killing the processes; the kill here is for those that were not yet tied to the supervisor.
    pub(crate) fn remove_host(&self, id: &str) -> Result<()> {
        // Needs Linux 5.14; the host may not exist.
        drop(fs::write(self.host(id).join("cgroup.kill"), "1"));
        remove_empty(&self.host(id))?;
        self.host_memory(id).map_or(Ok(()), |group| remove_empty(&group))
    }

    /// Removes the cloud's cgroups after those of all hosts. Cgroups in use by a new host of another ctl are kept.
    pub(crate) fn remove_cloud(&self) -> Result<()> {
        remove_empty(&self.unified)?;
        self.memory.as_ref().map_or(Ok(()), |group| remove_empty(group))
    }
}

fn open_door(path: &Path) -> Result<File> {
    File::options().write(true).open(path).doing(|| format!("cannot open {}", path.display()))
}

/// Forbids swap too; otherwise the limit would only move pages to swap.
fn limit_unified(group: &Path, memory: Option<u64>) -> Result<()> {
    let Some(bytes) = memory else { return Ok(()) };
    write(&group.join("memory.max"), &bytes.to_string())?;
    let swap = group.join("memory.swap.max");
    if swap.exists() { write(&swap, "0") } else { Ok(()) }
}

/// memsw counts memory and swap together and must not be below the memory limit, so it is set second.
fn limit_v1(group: &Path, memory: Option<u64>) -> Result<()> {
    let Some(bytes) = memory else { return Ok(()) };
    write(&group.join("memory.limit_in_bytes"), &bytes.to_string())?;
    let both = group.join("memory.memsw.limit_in_bytes");
    if both.exists() { write(&both, &bytes.to_string()) } else { Ok(()) }
}

/// The `oom_kill` line of memory.events or memory.oom_control.
fn parse_oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oom_kills_in_both_formats() {
        assert_eq!(parse_oom_kills("low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(parse_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(parse_oom_kills("under_oom 0\n"), None);
    }

    proptest::proptest! {
        #[test]
        fn foreign_text_never_panics(text in "\\PC*") {
            parse_oom_kills(&text);
        }
    }
}
