//! Says over and over what time it is in the virtual machine: one line `alive <CLOCK_BOOTTIME, ns>;` each 100 ms.
//!
//! It is locked in memory, is never killed, and reads no file, so where a beat is late nothing in the machine went on:
//! the kernel or the emulator stood still. The last beat before a power cut tells when it was.

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
        // In one piece, so that it stays one line.
        let line = format!("alive {};\n", now.as_nanos());
        let _ = io::stdout().write_all(line.as_bytes());
        sleep(PERIOD);
    }
}
