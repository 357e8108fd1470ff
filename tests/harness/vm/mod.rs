//! A virtual machine with its own kernel, for tests that hosts in namespaces cannot do: out-of-memory of the whole
//! machine, swap on a disk, power cuts.
//!
//! qemu emulates it, so the machine needs no virtualization support. Debian's cloud kernel has drivers for NVMe, ext4 and
//! the serial port built in: it boots directly from the disk, without an initramfs. The guest's disks are files, which
//! qemu writes through this machine's page cache. When qemu is killed, data that the guest wrote to its disks is kept, and
//! data in the guest's memory is lost, as in a power cut.

mod disks;

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

pub use disks::{Disks, System, find};

use crate::target_dir;

/// Memory of EC2's t1.micro, MiB.
const MEMORY_MIB: &str = "613";

/// Limits of a disk like those of EBS, so that the speed of swapping does not depend on this machine.
const SWAP_SPEED: &str = ",throttling.iops-total=250";

/// Number of console lines that a failure shows.
const LAST_LINES: usize = 40;

/// A running virtual machine. Dropping it cuts the power, and so does the end of the thread that booted it.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    console: Receiver<String>,
    said: Vec<String>,
}

impl Machine {
    /// Boots from these disks; `parameters` are appended to the kernel's command line.
    pub fn boot(disks: &Disks, parameters: &str) -> Self {
        let parameters =
            format!("root=/dev/nvme0n1 rw init=/init console=ttyS0 loglevel=4 panic=-1 {parameters}");
        // One controller with two namespaces: the names do not depend on the order of discovery.
        let mut qemu = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "qemu-system-x86_64",
                "-accel",
                "tcg",
                "-smp",
                "1",
                "-m",
                MEMORY_MIB,
            ])
            .args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .arg("-kernel")
            .arg(kernel())
            .args(["-append", &parameters, "-device", "nvme,id=disks,serial=magpie"])
            .args(disk("system", &disks.system(), "", 1))
            .args(disk("swap", &disks.swap(), SWAP_SPEED, 2))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv and qemu are there: make prerequisites-test");
        let console = lines(qemu.stdout.take().expect("captured"));
        Self { qemu, console, said: Vec::new() }
    }

    /// Waits for a console line for which `wanted` returns a value.
    #[track_caller]
    pub fn wait_for<T>(&mut self, patience: Duration, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + patience;
        loop {
            let line = match self.console.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => panic!("not within {patience:?}:\n{}", self.last_lines()),
                Err(RecvTimeoutError::Disconnected) => panic!("the machine ended:\n{}", self.last_lines()),
            };
            let found = wanted(&line);
            self.said.push(line);
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// Cuts the power; returns the console's output since the boot.
    pub fn power_cut(mut self) -> Vec<String> {
        self.end();
        let rest: Vec<String> = self.console.iter().collect();
        self.said.extend(rest);
        std::mem::take(&mut self.said)
    }

    fn end(&mut self) {
        // qemu may already have ended.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }

    fn last_lines(&self) -> String {
        self.said[self.said.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}

/// Debian's cloud kernel, which `make prerequisites-test` puts into the target directory.
fn kernel() -> PathBuf {
    let target = target_dir();
    let kernel = target.parent().expect("target is above the profile").join("kernel/vmlinuz");
    assert!(kernel.is_file(), "{} is not there: run `make prerequisites-test` first", kernel.display());
    kernel
}

/// qemu's arguments for one disk.
fn disk(name: &str, file: &Path, options: &str, number: u8) -> [String; 4] {
    let file = file.display();
    [
        "-drive".to_owned(),
        format!("id={name},file={file},if=none,format=raw,cache=writeback{options}"),
        "-device".to_owned(),
        format!("nvme-ns,bus=disks,drive={name},nsid={number}"),
    ]
}

/// The lines of a console as they come, until it ends.
fn lines(console: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
