//! Measures the costs of a program and its children in their own control group (cgroups(7), version 2).
//!
//! The CPU time of a group (`cpu.stat`) counts every process that ever was in it, in microseconds, and needs no controller.
//! Kernel time of a system call is charged to the caller, including a walk over all tasks in one `read`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::Result;

/// Prefix of the groups' names.
const PREFIX: &str = "magpie-bench-";

/// Timeout for a program to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(10);

/// CPU time so far, µs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// User mode.
    pub(crate) user_us: u64,
    /// Kernel mode.
    pub(crate) system_us: u64,
}

impl Cpu {
    /// Both together.
    pub(crate) fn total_us(self) -> u64 {
        self.user_us + self.system_us
    }

    /// CPU time since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self { user_us: self.user_us - before.user_us, system_us: self.system_us - before.system_us }
    }
}

/// Memory of all processes of a group, KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// VmRSS.
    pub(crate) resident_kib: u64,
    /// VmLck.
    pub(crate) locked_kib: u64,
}

/// One thread of a group.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    /// Thread id.
    pub(crate) id: String,
    /// Thread name.
    pub(crate) name: String,
    /// CPU time, ns.
    pub(crate) cpu_ns: u64,
}

/// A program in its own group. Dropping it ends the program and all processes that it started.
pub(crate) struct Metered {
    child: Child,
    group: PathBuf,
}

impl Metered {
    /// Starts the shell command `line` with `directory` as `$0`; its output goes to the file `output` there.
    pub(crate) fn start(line: &str, directory: &Path) -> Result<Self> {
        let group = make_group()?;
        let output = fs::File::create(directory.join("output"))?;
        let join = format!("echo $$ >{}/cgroup.procs && {line}", group.display());
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "sh", "-c", &join])
            .arg(directory)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn();
        match child {
            Ok(child) => Ok(Self { child, group }),
            Err(error) => {
                let _ = fs::remove_dir(&group);
                Err(error.into())
            }
        }
    }

    /// CPU time of the group so far.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        let text = fs::read_to_string(self.group.join("cpu.stat"))?;
        let field = |name: &str| {
            let mut words = text.lines().filter_map(|line| line.split_once(' '));
            words.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
        };
        Ok(Cpu { user_us: field("user_usec"), system_us: field("system_usec") })
    }

    /// Memory of the group now.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let mut memory = Memory::default();
        for pid in self.processes()? {
            // The process may have ended.
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            for (name, value) in status.lines().filter_map(|line| line.split_once(':')) {
                let kib =
                    || value.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
                match name {
                    "VmRSS" => memory.resident_kib += kib(),
                    "VmLck" => memory.locked_kib += kib(),
                    _ => {}
                }
            }
        }
        Ok(memory)
    }

    /// CPU time of each thread so far (`/proc/PID/task/TID/schedstat`, first field).
    pub(crate) fn threads(&self) -> Result<Vec<Thread>> {
        let mut threads = Vec::new();
        for pid in self.processes()? {
            // Threads may end at any time.
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
                let cpu_ns =
                    read("schedstat").split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0);
                let id = task.file_name().to_string_lossy().into_owned();
                threads.push(Thread { id, name: read("comm").trim().to_owned(), cpu_ns });
            }
        }
        Ok(threads)
    }

    /// Exit status, if the program ended without being asked.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks the program to end, and waits.
    pub(crate) fn end(mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn processes(&self) -> io::Result<Vec<u32>> {
        let text = fs::read_to_string(self.group.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        let _ = fs::write(self.group.join("cgroup.kill"), "1");
        let _ = self.child.wait();
        let deadline = Instant::now() + PATIENCE;
        while fs::remove_dir(&self.group).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Creates an empty group, after removing groups left by killed benchmarks.
fn make_group() -> Result<PathBuf> {
    let root = hierarchy()?;
    let own = format!("{PREFIX}{}-", std::process::id());
    for entry in fs::read_dir(&root)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && !name.starts_with(&own) {
            // Groups in use stay.
            let _ = fs::remove_dir(entry.path());
        }
    }
    for number in 0.. {
        let group = root.join(format!("{own}{number}"));
        match fs::create_dir(&group) {
            Ok(()) => return Ok(group),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("cannot make {}: {error}", group.display()).into()),
        }
    }
    unreachable!("numbers do not end")
}

/// Mount point of version 2 control groups.
pub(crate) fn hierarchy() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mounted = mounts.lines().map(|line| line.split(' ')).find_map(|mut words| {
        let directory = words.nth(1)?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(directory))
    });
    mounted.ok_or_else(|| "no control groups of version 2 are mounted here".into())
}
