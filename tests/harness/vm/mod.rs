//! A virtual machine: a kernel of its own, for what hosts in namespaces cannot show. Memory that runs out for everybody,
//! swap on a disk, power cuts.
//!
//! qemu emulates it, so nothing is asked of the machine below. Debian's kernel for clouds has the drivers for NVMe,
//! ext4 and the serial port built in: it boots straight from the disk, without an initramfs. The guest's disks are files, which
//! qemu writes through this machine's page cache: when qemu is killed, what the guest had written to its disks is
//! there, and what it had only in its own memory is gone, as in a power cut.

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

/// A disk such as EBS has them: that swapping is slow must not depend on the machine below.
const SWAP_SPEED: &str = ",throttling.iops-total=250";

/// Lines of the console that a failure shows.
const LAST_LINES: usize = 40;

/// A running virtual machine. Dropping it cuts its power; so does the end of the thread that booted it.
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
        // One controller with two namespaces: their names do not depend on which is found first.
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

    /// Waits until the console says a line that `wanted` makes something of.
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

    /// Cuts the power; returns all that the console has said since the boot.
    pub fn power_cut(mut self) -> Vec<String> {
        self.end();
        let rest: Vec<String> = self.console.iter().collect();
        self.said.extend(rest);
        std::mem::take(&mut self.said)
    }

    fn end(&mut self) {
        // Either it runs, or it has ended by itself.
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

/// Debian's kernel for clouds, where `make prerequisites-test` puts it: beside what cargo builds.
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
