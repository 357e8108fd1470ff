//! Processes that a run leaves running: started by the run and still alive after its normal end.
//!
//! They continue, as they would after `puppet apply` or a command in a shell. systemd kills all processes in a unit's
//! control group once its main process has ended, which is right for a run whose supervisor was killed. Therefore, at
//! an orderly end, the remaining processes move to a scope of their own, `magpie-run-<id>.scope`, which `systemctl`
//! can show and stop.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::process::{Descendant, descendants};

/// Maximum number of processes listed by name; the others are only counted.
const NAMED: usize = 10;
/// Timeout for systemd to create a scope.
const SCOPE: Duration = Duration::from_secs(5);
/// Polling interval.
const PAUSE: Duration = Duration::from_millis(10);
/// Maximum number of attempts: a process may start another one while it is moved.
const ROUNDS: usize = 20;

/// Processes that continue after the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Total number.
    pub count: u32,
    /// Names of the first ones, such as `nginx (1234)`.
    pub names: Vec<String>,
}

impl Left {
    fn of(processes: &[Descendant]) -> Self {
        let names = processes.iter().take(NAMED).map(Descendant::to_string).collect();
        Self { count: u32::try_from(processes.len()).unwrap_or(u32::MAX), names }
    }
}

/// Keeps the remaining processes of this process's run alive after its end, and returns them.
///
/// # Errors
/// If they cannot be kept; systemd then kills them with the run's unit. The message names the processes.
pub fn keep(id: &str) -> Result<Left, String> {
    let processes = descendants().map_err(|error| error.to_string())?;
    let left = Left::of(&processes);
    let Some(unit) = fs::read_to_string("/proc/self/cgroup").ok().filter(|text| is_unit_of(text, id)) else {
        // Without systemd, the remaining processes are not killed.
        return Ok(left);
    };
    if processes.is_empty() {
        return Ok(left);
    }
    move_to_scope(id, &unit).map(|()| left).map_err(|error| {
        format!(
            "processes that the run started end with it ({}): {error}",
            Left::of(&processes).names.join(", ")
        )
    })
}

fn is_unit_of(membership: &str, id: &str) -> bool {
    let end = format!("/magpie-run-{id}.service");
    membership.lines().any(|line| line.ends_with(&end))
}

/// Creates the scope with a placeholder process, which waits in the scope until the others are moved.
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
    // Closing its standard input ends the process.
    drop(guard.stdin.take());
    moved
}

/// The scope's control groups, as the files to write pids to.
fn await_scope(guard: &Child, id: &str) -> io::Result<Vec<PathBuf>> {
    let (membership, until) = (format!("/proc/{}/cgroup", guard.id()), Instant::now() + SCOPE);
    while Instant::now() < until {
        let doors = doors(&fs::read_to_string(&membership)?, id, Path::new("/sys/fs/cgroup"));
        if !doors.is_empty() {
            return Ok(doors);
        }
        thread::sleep(PAUSE);
    }
    Err(io::Error::other(format!("systemd created no scope within {} s", SCOPE.as_secs())))
}

/// The files to write pids to in order to join the scope named in a text of `/proc/<pid>/cgroup` (cgroups(7)); empty if
/// the text does not name the scope.
fn doors(membership: &str, id: &str, tree: &Path) -> Vec<PathBuf> {
    let end = format!("/magpie-run-{id}.scope");
    let doors = membership.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let hierarchy = match controllers.strip_prefix("name=").unwrap_or(controllers) {
            // Version 2, alone or alongside version 1.
            "" if tree.join("cgroup.controllers").exists() => tree.to_owned(),
            "" => tree.join("unified"),
            named => tree.join(named),
        };
        path.ends_with(&end).then(|| hierarchy.join(&path[1..]).join("cgroup.procs"))
    });
    doors.collect()
}

/// Moves all remaining processes of the run's unit. Leaves processes that were moved elsewhere.
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
                    // The process has exited meanwhile.
                    Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32) => {}
                    written => written?,
                }
            }
        }
    }
    Err(io::Error::other("new processes start faster than they can be moved"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_processes_are_named_and_all_are_counted() {
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
