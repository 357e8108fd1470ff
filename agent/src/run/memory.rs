//! Was it for lack of memory? What the kernel counted for a run, and what can be said where it counts nothing.

use std::{fs, path::Path};

use nix::sys::resource::{UsageWho, getrusage};

/// What is known about the memory of a run that did not end well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Out-of-memory kills in the run's own control group; `None` where the kernel shows no counter of its own.
    pub kills: Option<u64>,
    /// The most memory that one process of the run ever held, in bytes.
    pub peak_bytes: u64,
    /// How much memory this host may use, in bytes, if that is known.
    pub limit_bytes: Option<u64>,
}

impl Evidence {
    /// What the kernel has counted since `before`, and the sizes of all processes of the run that have ended.
    pub fn gather(before: Option<u64>, limit_bytes: Option<u64>) -> Self {
        let now = oom_kills(Path::new("/"));
        let kills = before.zip(now).map(|(before, now)| now.saturating_sub(before));
        // In kilobytes (getrusage(2)).
        let peak = getrusage(UsageWho::RUSAGE_CHILDREN).map_or(0, |usage| usage.max_rss());
        Self { kills, peak_bytes: u64::try_from(peak).unwrap_or_default() << 10, limit_bytes }
    }

    /// A half-sentence on memory as the cause, if it is or may be. `killed` says that the run's own program (such as
    /// `Puppet`) was ended by SIGKILL.
    pub fn sentence(&self, program: &str, killed: bool) -> Option<String> {
        match (self.kills, killed) {
            (Some(0), true) => {
                Some("not for lack of memory: the kernel counted no out-of-memory kill in this run".into())
            }
            (Some(0), false) | (None, false) => None,
            (Some(_), true) => Some(format!("an out-of-memory kill by the kernel; {}", self.size(program))),
            (Some(1), false) => {
                Some("the kernel's out-of-memory killer ended a process that it had started".into())
            }
            (Some(kills), false) => {
                Some(format!("the kernel's out-of-memory killer ended {kills} processes that it had started"))
            }
            (None, true) if self.is_big() => Some(format!(
                "probably an out-of-memory kill: {}, and this host does not count such kills for a single run",
                self.size(program)
            )),
            (None, true) => Some(format!(
                "by whom is not known: {}, and this host does not count out-of-memory kills for a single run",
                self.size(program)
            )),
        }
    }

    /// Had a process grown so large that memory is the likely cause: to half of what there is?
    fn is_big(&self) -> bool {
        self.limit_bytes.is_some_and(|limit| self.peak_bytes >= limit / 2)
    }

    fn size(&self, program: &str) -> String {
        let of = self.limit_bytes.map(|limit| format!(" of this host's {}", mebibytes(limit)));
        format!("{program} held up to {}{}", mebibytes(self.peak_bytes), of.unwrap_or_default())
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// How many processes of this run's unit the kernel has killed for lack of memory: `memory.events` of version 2 (the
/// kernel's cgroup-v2.rst), `memory.oom_control` of version 1 (cgroup-v1/memory.rst, since Linux 4.13).
///
/// `None` where the run has no group of its own: any other counter is that of more than the run.
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

/// Is this the control group of a run's unit (see `launch`)?
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
    fn a_kill_that_was_counted_is_a_fact_and_one_that_was_not_is_probable_with_the_reason() {
        let say = |evidence: Evidence, killed| evidence.sentence("Puppet", killed).unwrap_or_default();
        assert_eq!(
            say(evidence(Some(1)), true),
            "an out-of-memory kill by the kernel; Puppet held up to 580 MiB of this host's 613 MiB"
        );
        assert_eq!(
            say(evidence(Some(2)), false),
            "the kernel's out-of-memory killer ended 2 processes that it had started"
        );
        assert_eq!(
            say(evidence(None), true),
            "probably an out-of-memory kill: Puppet held up to 580 MiB of this host's 613 MiB, and this host does not \
             count such kills for a single run"
        );
        let small = Evidence { peak_bytes: 12 * MIB, ..evidence(None) };
        assert!(say(small, true).starts_with("by whom is not known: Puppet held up to 12 MiB"));
        assert!(say(evidence(Some(0)), true).starts_with("not for lack of memory"));
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
