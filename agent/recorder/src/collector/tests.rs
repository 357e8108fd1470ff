//! Requirements for all collectors: the tests run for each one that works on this machine.

use std::{
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::unistd::{SysconfVar, geteuid, sysconf};
use record::Process;

use super::{bpf::Bpf, proc::Proc, *};
use crate::{details::Details, host::ControlGroups};

pub(super) fn page_kib() -> u64 {
    sysconf(SysconfVar::PAGE_SIZE).unwrap().unwrap().cast_unsigned() / 1024
}

pub(super) fn table() -> Table {
    Table::new()
}

pub(super) fn proc(budget: usize) -> Proc {
    Proc::open(Path::new("/proc"), page_kib(), budget).unwrap()
}

/// The BPF collector, or the reason why this machine does not support it.
pub(super) fn bpf() -> Result<Bpf, String> {
    let loaded = Bpf::load(Path::new("/proc"), page_kib());
    let possible = geteuid().is_root() && Path::new("/sys/kernel/btf/vmlinux").exists();
    match loaded {
        // Root outside the initial namespaces has no privileges in the kernel.
        Err(reason) if possible && !reason.contains("namespace") && !reason.contains("not permitted") => {
            panic!("{reason}")
        }
        loaded => loaded,
    }
}

/// All collectors that work here; /proc also without spare descriptors.
fn collectors() -> Vec<Box<dyn Collector>> {
    let mut collectors: Vec<Box<dyn Collector>> = vec![Box::new(proc(1000)), Box::new(proc(0))];
    match bpf() {
        Ok(bpf) => collectors.push(Box::new(bpf)),
        Err(reason) => eprintln!("only /proc is tried, BPF cannot be used here: {reason}"),
    }
    collectors
}

/// A collector with its table, as in the recorder.
struct Look {
    collector: Box<dyn Collector>,
    table: Table,
    details: Details,
}

impl Look {
    fn with_each(test: impl Fn(&mut Self)) {
        for collector in collectors() {
            let details = {
                let groups = ControlGroups::below(Path::new("/"));
                Details::start(Path::new("/proc"), Path::new("/etc/passwd"), &groups).unwrap()
            };
            test(&mut Self { collector, table: table(), details });
        }
    }

    fn sweep(&mut self) {
        self.collector.sweep(&mut self.table, Effort::Full).unwrap();
        self.details.exchange(&mut self.table, Duration::from_secs(60));
    }

    fn find(&self, pid: u32) -> Option<&Process> {
        self.table.processes().iter().find(|process| process.identity.pid == pid)
    }

    /// Sweeps until the process satisfies the condition.
    fn sweep_until(&mut self, pid: u32, is: impl Fn(&Process) -> bool) -> Process {
        loop {
            self.sweep();
            if let Some(process) = self.find(pid).filter(|process| is(process)) {
                return process.clone();
            }
        }
    }
}

fn sleeper() -> Child {
    Command::new("sleep").arg("600").spawn().unwrap()
}

/// The child may not have run exec yet when it is first seen.
fn sleeps(process: &Process) -> bool {
    process.comm.as_ref() == "sleep" && process.command.as_deref() == Some("sleep 600")
}

#[test]
fn a_process_is_seen_while_it_lives() {
    Look::with_each(|look| {
        let mut child = sleeper();
        let pid = child.id();
        let process = look.sweep_until(pid, sleeps);
        assert_eq!(process.parent, std::process::id());
        assert_eq!(process.uid, Some(geteuid().as_raw()));
        assert!(process.user.is_some() && process.cgroup.is_some());
        assert!(process.resident_kib > 0 && process.anon_kib.is_some());
        assert!(look.table.processes().is_sorted_by(|a, b| a.identity < b.identity));
        child.kill().unwrap();
        child.wait().unwrap();
        look.sweep();
        assert_eq!(look.find(pid), None);
    });
}

#[test]
fn a_process_that_grows_is_measured_at_once() {
    const KIB: u64 = 20 << 10;
    Look::with_each(|look| {
        let mut command = Command::new("tail");
        let mut child =
            command.args(["-c", "100M"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let before = look.sweep_until(child.id(), |process| process.comm.as_ref() == "tail").resident_kib;
        // Nothing was new in the last sweep.
        look.sweep();
        // The child keeps all the data, and has read everything except what the pipe holds.
        child.stdin.as_mut().unwrap().write_all(&vec![0; KIB as usize * 1024]).unwrap();
        look.sweep();
        let after = look.find(child.id()).unwrap().resident_kib;
        assert!(after > before + KIB / 2, "{before} KiB, then {after} KiB");
        drop(child.stdin.take());
        child.wait().unwrap();
    });
}

#[test]
fn a_zombie_keeps_its_command_line() {
    Look::with_each(|look| {
        let mut child = sleeper();
        look.sweep_until(child.id(), sleeps);
        child.kill().unwrap();
        let zombie = look.sweep_until(child.id(), |process| process.state == b'Z');
        assert_eq!((zombie.resident_kib, zombie.command.as_deref()), (0, Some("sleep 600")));
        child.wait().unwrap();
    });
}

/// A process whose first thread exits while another holds 50 MB, written by hand: `syscall(60)` is exit(2) on x86-64.
fn headless() -> Option<Child> {
    let script = "use threads; $| = 1; \
                  threads->create(sub { my $held = 'x' x 5e7; print qq(held\\n); sleep 600 }); syscall(60, 0)";
    let mut perl = Command::new("perl");
    perl.args(["-e", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = perl.spawn().ok()?;
    let told = child.stdout.take()?.read_exact(&mut [0; 5]);
    if told.is_err() || cfg!(not(target_arch = "x86_64")) {
        child.kill().ok()?;
        child.wait().ok()?;
        return None;
    }
    Some(child)
}

#[test]
fn a_process_whose_first_thread_has_exited_keeps_its_values() {
    Look::with_each(|look| {
        let Some(mut child) = headless() else { return eprintln!("skipped: there is no perl with threads") };
        let stat = format!("/proc/{}/stat", child.id());
        while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
            std::thread::yield_now();
        }
        let process = look.sweep_until(child.id(), |process| process.threads == 2);
        assert!(process.resident_kib > 48_000, "{process:?}");
        assert!(process.anon_kib > Some(48_000) && process.footprint_kib() > 48_000, "{process:?}");
        assert!(process.virtual_kib > process.resident_kib && process.state != b'Z', "{process:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn cpu_time_grows_with_work_and_is_that_of_the_whole_process() {
    Look::with_each(|look| {
        let own = std::process::id();
        look.sweep();
        let before = look.find(own).unwrap().cpu_us();
        // A thread that has ended before the sweep.
        std::thread::spawn(|| {
            let begun = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
            while nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap() - begun
                < Duration::from_millis(60).into()
            {}
        })
        .join()
        .unwrap();
        look.sweep();
        assert!(look.find(own).unwrap().cpu_us() >= before + 40_000);
    });
}

/// Whether the process has waited for a child since `io` was last read, and whether its I/O is known.
fn traffic_of(table: &mut Table, pid: u32) -> (bool, bool) {
    table.begin();
    let reaped = table.peek(pid).unwrap().watch.reaped;
    let process = table.processes().iter().find(|process| process.identity.pid == pid).unwrap();
    (reaped, process.read_bytes.is_some())
}

#[test]
fn io_is_read_in_the_first_sweep_after_a_wait_for_a_child() {
    for budget in [1000, 0] {
        let script = "while read line; do sleep 0; echo done; done";
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().unwrap();
        let pid = shell.id();
        let (mut collector, mut table) = (proc(budget), table());
        // A new process is read completely, so the second sweep is the first ordinary one.
        for _ in 0..2 {
            collector.sweep(&mut table, Effort::Full).unwrap();
        }
        shell.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        shell.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
        collector.sweep(&mut table, Effort::Full).unwrap();
        let permitted = std::fs::read(format!("/proc/{pid}/io")).is_ok();
        assert_eq!(traffic_of(&mut table, pid), (true, permitted), "budget {budget}");

        table.leave_out_inherited_io();
        assert_eq!(traffic_of(&mut table, pid), (false, false));
        // At the latest in its turn, if others have run more.
        let known = (0..20).any(|_| {
            collector.sweep(&mut table, Effort::Full).unwrap();
            traffic_of(&mut table, pid) == (false, true)
        });
        assert_eq!(known, permitted);
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
}

#[test]
fn a_sweep_of_the_same_processes_allocates_nothing() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![0u8; 100])));
    assert!(counted.count_total > 0, "allocations are not counted");
    for mut collector in collectors() {
        let mut table = table();
        let mut identities = Vec::new();
        // Other tests start, end and rename processes: any sweep without changes will do.
        let quiet = (0..1000).any(|_| {
            let sweep = || assert!(collector.sweep(&mut table, Effort::Full).is_ok());
            let allocated = allocation_counter::measure(sweep).count_total;
            let now: Vec<_> = table.processes().iter().map(|process| process.identity).collect();
            let same = now == identities;
            identities = now;
            same && allocated == 0
        });
        assert!(quiet, "{:?} allocates in each sweep", collector.kind());
    }
}
