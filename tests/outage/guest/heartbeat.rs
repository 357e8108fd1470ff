//! Prints the time of the virtual machine repeatedly: one line `alive <CLOCK_BOOTTIME, ns>;` every 100 ms.
//!
//! It is locked in memory, is never killed, and reads no files. So a late beat means that nothing in the machine ran: the
//! kernel or the emulator stalled. The last beat before a power cut shows the time of the cut.

use std::{
    fs,
    io::{self, Write},
    thread::sleep,
    time::Duration,
};

use nix::{
    sys::mman::{MlockAllFlags, mlockall},
    time::{ClockId, clock_gettime},
};

const PERIOD: Duration = Duration::from_millis(100);

fn main() {
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)
        .expect("the guest's root may lock memory");
    fs::write("/proc/self/oom_score_adj", "-1000").expect("the guest's root may spare a process");
    loop {
        let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the clock"));
        // One write, so that it stays one line.
        let line = format!("alive {};\n", now.as_nanos());
        let _ = io::stdout().write_all(line.as_bytes());
        sleep(PERIOD);
    }
}
