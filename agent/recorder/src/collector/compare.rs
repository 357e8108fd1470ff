//! Compares both collectors on this machine: they must give the same results.

use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::time::{ClockId, clock_gettime};
use record::{Identity, Process};

use super::{
    tests::{bpf, proc, table},
    *,
};

/// Rounding error of /proc for two values: user and system time.
const TICKS_US: u64 = 2 * TICK_NS / 1000;

/// Maximum number of attempts until all processes agree; a process that changes during one attempt agrees in another.
const LOOKS: usize = 50;

/// Processes of all kinds, killed on drop.
struct Zoo {
    children: Vec<Child>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Zoo {
    fn open() -> Self {
        let start = |command: &mut Command| command.stdout(Stdio::null()).spawn().unwrap();
        let sleep = || {
            let mut command = Command::new("sleep");
            command.arg("600");
            command
        };
        let children = vec![
            start(&mut sleep()),
            start(sleep().uid(33).gid(33)),
            start(sleep().arg0("odd) name (x y")),
            start(Command::new("sh").args(["-c", "kill -STOP $$"])),
            start(Command::new("sh").args(["-c", "while :; do :; done"])),
        ];
        let stop = Arc::new(AtomicBool::new(false));
        let spin = |stop: Arc<AtomicBool>| move || while !stop.load(Ordering::Relaxed) {};
        let threads = (0..2).map(|_| thread::spawn(spin(Arc::clone(&stop)))).collect();
        // This thread ends at once: its time stays with the process.
        thread::spawn(|| (0..20_000_000u64).fold(0, |sum, number| sum ^ std::hint::black_box(number)))
            .join()
            .unwrap();
        Self { children, threads, stop }
    }
}

impl Drop for Zoo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for child in &mut self.children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// Everything in /proc at this moment, and the maximum error of sizes. The table is new, so all files are read.
fn everything_in_proc() -> (BTreeMap<Identity, Process>, u64) {
    let mut table = table();
    let swept = proc(0).sweep(&mut table, Effort::Full).unwrap();
    (by_identity(&table), swept.rss_error_kib)
}

fn by_identity(table: &Table) -> BTreeMap<Identity, Process> {
    table.processes().iter().map(|process| (process.identity, process.clone())).collect()
}

/// Compares BPF's view of a process with two readings of /proc, before and after; returns a sentence if they disagree.
fn contradiction(before: &Process, bpf: &Process, after: &Process, error_kib: u64) -> Option<String> {
    let mut said = Vec::new();
    let mut grows = |what, [before, bpf, after]: [u64; 3], error: u64| {
        if bpf + error < before || bpf > after + error {
            said.push(format!("{what} {bpf} is not between {before} and {after}"));
        }
    };
    let all = [before, bpf, after];
    grows("CPU time", all.map(Process::cpu_us), TICKS_US);
    grows("major faults", all.map(|process| process.major_faults), 0);
    if after.threads == 1 {
        grows("waiting", all.map(|process| process.wait_us.unwrap_or(0)), 0);
    }
    grows("reading", all.map(|process| process.read_bytes.unwrap_or(0)), 0);
    grows("writing", all.map(|process| process.written_bytes.unwrap_or(0)), 0);
    let mut same = |what, values: [Option<u64>; 3], error: u64| {
        let [before, bpf, after] = values;
        let known = [before, after].map(|value| value.is_some() == bpf.is_some());
        let range =
            before.min(after).unwrap_or(0).saturating_sub(error)..=before.max(after).unwrap_or(0) + error;
        if known != [true; 2] || !range.contains(&bpf.unwrap_or(0)) {
            said.push(format!("{what} {bpf:?} is not {before:?} or {after:?}"));
        }
    };
    same("resident", all.map(|process| Some(process.resident_kib)), error_kib);
    same("anonymous", all.map(|process| process.anon_kib), error_kib);
    same("file", all.map(|process| process.file_kib), error_kib);
    same("shared", all.map(|process| process.shmem_kib), error_kib);
    same("swapped", all.map(|process| process.swap_kib), error_kib);
    same("virtual", all.map(|process| Some(process.virtual_kib)), 0);
    same("threads", all.map(|process| Some(process.threads.into())), 0);
    same("user", all.map(|process| process.uid.map(u64::from)), 0);
    same("parent", all.map(|process| Some(process.parent.into())), 0);
    if before.state == after.state && before.state != b'R' && before.state != bpf.state {
        said.push(format!("state {:?} is not {:?}", bpf.state as char, before.state as char));
    }
    if before.comm == after.comm && before.comm != bpf.comm {
        said.push(format!("name {:?} is not {:?}", bpf.comm, before.comm));
    }
    (!said.is_empty()).then(|| format!("{} ({}): {}", bpf.comm, bpf.identity.pid, said.join(", ")))
}

/// Whether the kernel hides this process even from root and from BPF, like the supervisors of some machines.
fn is_hidden(pid: u32) -> bool {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/pid"));
    link.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

#[test]
fn bpf_and_proc_give_the_same_results() {
    let mut bpf = match bpf() {
        Ok(bpf) => bpf,
        Err(reason) => return eprintln!("skipped, BPF cannot be used here: {reason}"),
    };
    let zoo = Zoo::open();
    let mut bpf_table = table();
    let mut contradictions: BTreeMap<Identity, String> = BTreeMap::new();
    for look in 0..LOOKS {
        let begun = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
        let begun_ns = begun.tv_sec().cast_unsigned() * 1_000_000_000 + begun.tv_nsec().cast_unsigned();
        let (before, proc_error_kib) = everything_in_proc();
        let swept = bpf.sweep(&mut bpf_table, Effort::Full).unwrap();
        let (after, _) = everything_in_proc();
        let middle = by_identity(&bpf_table);

        assert!(swept.listed >= middle.len() as u64);
        let cpus = thread::available_parallelism().unwrap().get();
        assert!(swept.rss_error_kib == 0 || cpus > 16, "sizes could be exact");
        assert!(zoo.children.iter().all(|child| middle.keys().any(|identity| identity.pid == child.id())));
        let lasting = || before.keys().filter(|identity| after.contains_key(identity));
        let missed = lasting().filter(|identity| !middle.contains_key(identity));
        let missed: Vec<_> = missed.filter(|identity| !is_hidden(identity.pid)).collect();
        assert!(missed.is_empty(), "BPF did not see {missed:?}");
        let invented = middle.keys().filter(|identity| identity.started_ns + TICK_NS < begun_ns);
        let invented: Vec<_> = invented.filter(|identity| !before.contains_key(identity)).collect();
        assert!(invented.is_empty(), "/proc did not see {invented:?}");

        contradictions = lasting()
            .filter(|identity| middle.contains_key(identity))
            .filter(|identity| look == 0 || contradictions.contains_key(identity))
            .filter_map(|identity| {
                let error_kib = swept.rss_error_kib + proc_error_kib;
                let told = contradiction(&before[identity], &middle[identity], &after[identity], error_kib)?;
                Some((*identity, told))
            })
            .collect();
        if contradictions.is_empty() {
            return;
        }
    }
    panic!("they do not agree: {:#?}", contradictions.values());
}
