//! Decides whether a run failed for lack of memory: from the kernel's counters, or by estimate if there are none.

use std::{fs, path::Path};

use nix::sys::resource::{UsageWho, getrusage};
use proto::units::size;

/// Memory data of a run that did not end well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Out-of-memory kills in the run's own control group; `None` if the run has no counter of its own.
    pub kills: Option<u64>,
    /// The maximum memory of a single process of the run, in bytes.
    pub peak_bytes: u64,
    /// How much memory this host may use, in bytes, if known.
    pub limit_bytes: Option<u64>,
}

impl Evidence {
    /// Reads the kernel's count since `before`, and the peak memory of all finished processes of the run.
    pub fn gather(before: Option<u64>, limit_bytes: Option<u64>) -> Self {
        let now = oom_kills(Path::new("/"));
        let kills = before.zip(now).map(|(before, now)| now.saturating_sub(before));
        // In KiB (getrusage(2)).
        let peak = getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0, |usage| usage.max_rss());
        Self { kills, peak_bytes: u64::try_from(peak).unwrap_or_default() << 10, limit_bytes }
    }

    /// A clause about memory as the certain or possible cause. `killed` means that the run's own program (such as
    /// `Puppet`) was ended by SIGKILL.
    pub fn sentence(&self, program: &str, killed: bool) -> Option<String> {
        match (self.kills, killed) {
            (Some(0), true) => Some("not an out-of-memory kill: the kernel counted none in this run".into()),
            (Some(0), false) | (None, false) => None,
            (Some(_), true) => Some(format!("an out-of-memory kill by the kernel; {}", self.size(program))),
            (Some(1), false) => {
                Some("the kernel's OOM killer ended a process that the run had started".into())
            }
            (Some(kills), false) => {
                Some(format!("the kernel's OOM killer ended {kills} processes that the run had started"))
            }
            (None, true) if self.is_big() => Some(format!(
                "probably an out-of-memory kill: {}, and this host does not count such kills for a single run",
                self.size(program)
            )),
            (None, true) => Some(format!(
                "cause unknown: {}, and this host does not count out-of-memory kills for a single run",
                self.size(program)
            )),
        }
    }

    /// Whether a process used so much memory that this is the likely cause: at least half of the limit.
    fn is_big(&self) -> bool {
        self.limit_bytes.is_some_and(|limit| self.peak_bytes >= limit / 2)
    }

    fn size(&self, program: &str) -> String {
        let of = self.limit_bytes.map(|limit| format!(" of this host's {}", size(limit)));
        format!("{program} held up to {}{}", size(self.peak_bytes), of.unwrap_or_default())
    }
}

/// Number of out-of-memory kills in this run's unit: `memory.events` of version 2 (the kernel's cgroup-v2.rst),
/// `memory.oom_control` of version 1 (cgroup-v1/memory.rst, since Linux 4.13).
///
/// `None` if the run has no control group of its own: other counters include more than the run.
pub fn oom_kills(system: &Path) -> Option<u64> {
    let membership = fs::read_to_string(system.join("proc/self/cgroup")).ok()?;
    let group = |controllers: &str| {
        membership.lines().find_map(|line| {
            let (found, path) = line.split_once(':')?.1.split_once(':')?;
            let own = found.split(',').any(|controller| controller == controllers) && is_unit(path);
            own.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let tree = system.join("sys/fs/cgroup");
    let files = [
        group("").map(|path| tree.join(path).join("memory.events")),
        group("memory").map(|path| tree.join("memory").join(path).join("memory.oom_control")),
    ];
    files.into_iter().flatten().find_map(|file| parse(&fs::read_to_string(file).ok()?))
}

/// Whether this is the control group of a run's unit (see `launch`).
fn is_unit(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with("magpie-run-"))
}

fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn evidence(kills: Option<u64>) -> Evidence {
        Evidence { kills, peak_bytes: 580 * MIB, limit_bytes: Some(613 * MIB) }
    }

    #[test]
    fn a_counted_kill_is_certain_and_an_uncounted_one_is_probable_with_the_reason() {
        let say = |evidence: Evidence, killed| evidence.sentence("Puppet", killed).unwrap_or_default();
        assert_eq!(
            say(evidence(Some(1)), true),
            "an out-of-memory kill by the kernel; Puppet held up to 580 MiB of this host's 613 MiB"
        );
        assert_eq!(
            say(evidence(Some(2)), false),
            "the kernel's OOM killer ended 2 processes that the run had started"
        );
        assert_eq!(
            say(evidence(None), true),
            "probably an out-of-memory kill: Puppet held up to 580 MiB of this host's 613 MiB, and this host does not \
             count such kills for a single run"
        );
        let small = Evidence { peak_bytes: 12 * MIB - 1, ..evidence(None) };
        assert!(say(small, true).starts_with("cause unknown: Puppet held up to 12 MiB"));
        assert!(say(evidence(Some(0)), true).starts_with("not an out-of-memory kill"));
        assert_eq!(say(evidence(None), false) + &say(evidence(Some(0)), false), "");
    }

    #[test]
    fn both_versions_of_control_groups_are_read_and_only_the_runs_own() {
        let system = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = system.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/fs/cgroup/memory.events", "oom_kill 9\n");
        write("sys/fs/cgroup/memory/memory.oom_control", "oom_kill 9\n");
        write("sys/fs/cgroup/memory/shared/memory.oom_control", "oom_kill 9\n");
        for not_ours in ["4:memory:/\n0::/\n", "4:memory:/shared\n0::/\n", "garbage\n"] {
            write("proc/self/cgroup", not_ours);
            assert_eq!(oom_kills(system.path()), None);
        }
        let unit = "system.slice/magpie-run-r-1.service";
        write("proc/self/cgroup", &format!("4:cpu,memory:/{unit}\n0::/\n"));
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        write(&format!("sys/fs/cgroup/memory/{unit}/memory.oom_control"), text);
        assert_eq!(oom_kills(system.path()), Some(3));
        write("proc/self/cgroup", &format!("0::/{unit}\n"));
        let text = "low 0\noom 4\noom_kill 2\noom_group_kill 0\n";
        write(&format!("sys/fs/cgroup/{unit}/memory.events"), text);
        assert_eq!(oom_kills(system.path()), Some(2));
        assert_eq!(parse("nothing of it"), None);
    }
}
