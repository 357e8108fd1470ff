//! Identifies the process that is working on a host. A killed process leaves unfinished hosts behind; on the same
//! machine, the kernel shows that the process is gone.

use std::{fs, path::Path};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};

use crate::error::{Error, Result};

/// Mount point of procfs (proc(5)).
const PROC: &str = "/proc";

/// Whether a holder is still alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// A running process on this machine.
    Alive,
    /// A process on this machine that has exited.
    Dead,
    /// A process on another machine, boot or container, or unknown.
    Elsewhere,
}

/// Identifies this process: boot id, pid namespace, pid and start time (proc_pid_stat(5)), which together are unique.
///
/// # Errors
/// /proc cannot be read.
pub(crate) fn this_process() -> Result<String> {
    let here = whereabouts().ok_or_else(|| Error::invalid("cannot identify this machine from /proc"))?;
    let pid = std::process::id();
    let start = started(pid).ok_or_else(|| Error::invalid("cannot find this process in /proc"))?;
    Ok(format!("{here}:{pid}:{start}"))
}

/// Whether the process identified by [`this_process`] is still alive.
pub(crate) fn life(holder: &str) -> Life {
    let Some((before, start)) = holder.rsplit_once(':') else { return Life::Elsewhere };
    let Some((there, pid)) = before.rsplit_once(':') else { return Life::Elsewhere };
    let (Ok(pid), Ok(start)) = (pid.parse(), start.parse::<u64>()) else { return Life::Elsewhere };
    if whereabouts().as_deref() != Some(there) {
        return Life::Elsewhere;
    }
    match started(pid) {
        Some(found) if found == start => Life::Alive,
        Some(_) => Life::Dead,
        // proc(5), hidepid: other users' processes may be running but invisible.
        None if is_gone(pid) => Life::Dead,
        None => Life::Elsewhere,
    }
}

/// Whether the process does not exist or is a zombie.
fn is_gone(pid: u32) -> bool {
    let known = kill(Pid::from_raw(pid.cast_signed()), None);
    known == Err(Errno::ESRCH) || Path::new(PROC).join(pid.to_string()).join("stat").exists()
}

fn whereabouts() -> Option<String> {
    let boot = fs::read_to_string(Path::new(PROC).join("sys/kernel/random/boot_id")).ok()?;
    let namespace = fs::read_link(Path::new(PROC).join("self/ns/pid")).ok()?;
    let namespace: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    Some(format!("{}.{namespace}", boot.trim()))
}

/// Start time: field 22 of /proc/PID/stat, in clock ticks; `None` for a zombie.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(Path::new(PROC).join(pid.to_string()).join("stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn this_process_lives() {
        assert_eq!(life(&this_process().expect("known")), Life::Alive);
    }

    #[test]
    fn a_process_that_exited_is_dead_even_as_a_zombie() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("started");
        let start = started(child.id()).expect("it runs");
        let holder = format!("{}:{}:{start}", whereabouts().expect("known"), child.id());
        assert_eq!(life(&holder), Life::Alive);
        child.kill().expect("killed");
        // A zombie until it is waited for.
        while started(child.id()).is_some() {
            std::thread::yield_now();
        }
        assert_eq!(life(&holder), Life::Dead);
        child.wait().expect("waited for");
        assert_eq!(life(&holder), Life::Dead);
    }

    #[test]
    fn processes_of_other_machines_are_elsewhere() {
        let here = this_process().expect("known");
        let (_, process) = here.split_once(':').expect("parts");
        for elsewhere in ["", "x", "a:b:c", &format!("other.1:{process}")] {
            assert_eq!(life(elsewhere), Life::Elsewhere, "{elsewhere}");
        }
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let here = this_process().expect("known");
        let (process, _) = here.rsplit_once(':').expect("parts");
        assert_eq!(life(&format!("{process}:1")), Life::Dead);
    }
}
