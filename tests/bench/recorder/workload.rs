//! Real processes to record: most sleep, some are lightly busy.

use std::{
    fs,
    hint::black_box,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Result, random::Random};

/// Starts $1 sleepers with different arguments and $2 busy processes of the program $0. Runs until stopped.
const MAKE: &str = r#"trap 'exit 0' TERM
i=0
while [ $i -lt "$1" ]; do i=$((i + 1)); sleep 1000000 $i & done
i=0
while [ $i -lt "$2" ]; do i=$((i + 1)); "$0" busy $i & done
echo ready
wait"#;

/// Memory of a busy process.
const BUSY_BYTES: usize = 1 << 20;

/// Processes in their own pid namespace: however its init ends, the kernel kills them all.
pub(crate) struct Workload {
    holder: Child,
}

impl Workload {
    /// Returns when all are started.
    pub(crate) fn start(processes: usize, busy: usize) -> Result<Self> {
        let holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "sh", "-c", MAKE])
            .arg(std::env::current_exe()?)
            .args([(processes - busy).to_string(), busy.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut workload = Self { holder };
        let mut said = String::new();
        if let Some(stdout) = &mut workload.holder.stdout {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        if said.trim() == "ready" {
            return Ok(workload);
        }
        Err(format!("{processes} processes could not be started").into())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let holder = self.holder.id();
        let children = fs::read_to_string(format!("/proc/{holder}/task/{holder}/children"));
        // The init of the namespace: when it ends, the kernel kills all other processes.
        for pid in children.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.holder.wait();
    }
}

/// Work of a lightly busy process: 10 to 20 times a second up to a millisecond of work, with a little memory, some of which
/// it frees now and then.
pub(crate) fn busy(seed: u64) -> ! {
    let mut random = Random(seed);
    let mut memory = Vec::new();
    loop {
        thread::sleep(Duration::from_millis(random.within(50, 100)));
        if random.once_in(100) {
            memory = vec![0u8; random.within(64 << 10, BUSY_BYTES as u64) as usize];
        }
        let end = Instant::now() + Duration::from_micros(random.within(100, 1_000));
        while Instant::now() < end {
            let place = random.next() as usize % BUSY_BYTES;
            memory.get_mut(place).into_iter().for_each(|byte| *byte += 1);
        }
        black_box(&memory);
    }
}
