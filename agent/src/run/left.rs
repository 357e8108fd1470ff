//! What a run leaves running: processes that it started and that are alive when it has ended by itself.
//!
//! They go on, as after any `puppet apply` and any command in a shell. systemd ends whatever is in a unit's control
//! group once its main process has ended, and that is right for a run whose supervisor was killed. So at an orderly
//! end what is left moves to a scope of its own, `magpie-run-<id>.scope`, where `systemctl` shows and stops it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::process::{Descendant, descendants};

/// How many processes are named; the others are counted.
const NAMED: usize = 10;
/// How long systemd may take to make a scope.
const SCOPE: Duration = Duration::from_secs(5);
/// Between looks at something that takes a moment.
const PAUSE: Duration = Duration::from_millis(10);
/// A process may start another one while it is moved; so often it is looked for those.
const ROUNDS: usize = 20;

/// The processes that go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// How many there are.
    pub count: u32,
    /// The first of them, such as `nginx (1234)`.
    pub names: Vec<String>,
}

impl Left {
    fn of(processes: &[Descendant]) -> Self {
        let names = processes.iter().take(NAMED).map(Descendant::to_string).collect();
        Self { count: u32::try_from(processes.len()).unwrap_or(u32::MAX), names }
    }
}

/// Sees to it that what this process's run has left running goes on after this process, and says what that is.
///
/// # Errors
/// When it cannot be kept; then systemd ends it with the unit of the run. The sentence names the processes.
pub fn keep(id: &str) -> Result<Left, String> {
    let processes = descendants().map_err(|error| error.to_string())?;
    let left = Left::of(&processes);
    let Some(unit) = fs::read_to_string("/proc/self/cgroup").ok().filter(|text| is_unit_of(text, id)) else {
        // No systemd, and nobody who ends what is left.
        return Ok(left);
    };
    if processes.is_empty() {
        return Ok(left);
    }
    move_to_scope(id, &unit).map(|()| left).map_err(|error| {
        format!("what the run started ends with it ({}): {error}", Left::of(&processes).names.join(", "))
    })
}

fn is_unit_of(membership: &str, id: &str) -> bool {
    let end = format!("/magpie-run-{id}.service");
    membership.lines().any(|line| line.ends_with(&end))
}

/// Makes the scope by a process that waits in it until the others are there.
fn move_to_scope(id: &str, unit: &str) -> io::Result<()> {
    let mut guard = Command::new("systemd-run")
        .args(["--scope", "--collect", "--quiet"])
        .arg(format!("--unit=magpie-run-{id}"))
        .arg(format!("--description=What run {id} left running"))
        .args(["--", "/bin/cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let moved = await_scope(&guard, id).and_then(|scope| move_all(unit, &scope, guard.id()));
    // The end of its input is its end.
    drop(guard.stdin.take());
    moved
}

/// The control groups of the scope, as files that take pids.
fn await_scope(guard: &Child, id: &str) -> io::Result<Vec<PathBuf>> {
    let (membership, until) = (format!("/proc/{}/cgroup", guard.id()), Instant::now() + SCOPE);
    while Instant::now() < until {
        let doors = doors(&fs::read_to_string(&membership)?, id, Path::new("/sys/fs/cgroup"));
        if !doors.is_empty() {
            return Ok(doors);
        }
        thread::sleep(PAUSE);
    }
    Err(io::Error::other(format!("systemd made no scope within {} s", SCOPE.as_secs())))
}

/// Where pids are written to so that they join the scope that a text of `/proc/<pid>/cgroup` names (cgroups(7)); empty
/// while it names none.
fn doors(membership: &str, id: &str, tree: &Path) -> Vec<PathBuf> {
    let end = format!("/magpie-run-{id}.scope");
    let doors = membership.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let hierarchy = match controllers.strip_prefix("name=").unwrap_or(controllers) {
            // Version 2, alone or beside version 1.
            "" if tree.join("cgroup.controllers").exists() => tree.to_owned(),
            "" => tree.join("unified"),
            named => tree.join(named),
        };
        path.ends_with(&end).then(|| hierarchy.join(&path[1..]).join("cgroup.procs"))
    });
    doors.collect()
}

/// Moves all that is left in the run's unit. Processes that something else has put elsewhere stay there.
fn move_all(unit: &str, doors: &[PathBuf], guard: u32) -> io::Result<()> {
    for _ in 0..ROUNDS {
        let left = descendants().map_err(io::Error::other)?;
        let still_here = |process: &&Descendant| {
            let membership = fs::read_to_string(format!("/proc/{}/cgroup", process.pid));
            process.pid.cast_unsigned() != guard && membership.is_ok_and(|text| text == unit)
        };
        let here: Vec<&Descendant> = left.iter().filter(still_here).collect();
        if here.is_empty() {
            return Ok(());
        }
        for process in here {
            for door in doors {
                match fs::write(door, process.pid.to_string()) {
                    // It has ended since.
                    Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32) => {}
                    written => written?,
                }
            }
        }
    }
    Err(io::Error::other("it starts processes faster than they can be moved"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_are_named_and_all_are_counted() {
        let processes: Vec<_> =
            (1..=12).map(|pid| Descendant { pid, parent: 1, name: "nginx".into() }).collect();
        let left = Left::of(&processes);
        assert_eq!((left.count, left.names.len(), left.names[0].as_str()), (12, NAMED, "nginx (1)"));
    }

    #[test]
    fn the_doors_of_a_scope_are_found_in_both_versions_of_control_groups() {
        let tree = tempfile::tempdir().unwrap();
        let path = "/system.slice/magpie-run-r-1.scope";
        let mixed = format!("3:memory:/system.slice\n1:name=systemd:{path}\n0::{path}\n");
        let at = |name: &str| tree.path().join(name).join(&path[1..]).join("cgroup.procs");
        assert_eq!(doors(&mixed, "r-1", tree.path()), [at("systemd"), at("unified")]);
        assert!(doors(&mixed, "r-2", tree.path()).is_empty());
        fs::write(tree.path().join("cgroup.controllers"), "").unwrap();
        assert_eq!(doors(&format!("0::{path}\n"), "r-1", tree.path()), [at("")]);
        assert!(doors("garbage\n0::\n:::", "r-1", tree.path()).is_empty());
    }

    #[test]
    fn a_supervisor_knows_its_own_unit() {
        assert!(is_unit_of("0::/system.slice/magpie-run-r-1.service\n", "r-1"));
        assert!(!is_unit_of("0::/system.slice/magpie-agent.service\n", "r-1"));
        assert!(!is_unit_of("0::/system.slice/magpie-run-r-11.service\n", "r-1"));
    }
}
