//! Tests with real process exits, if the kernel reports them here; and of joining tasks to processes.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

use super::{taskstats::Record, *};

fn now_ns() -> u64 {
    Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap()).as_nanos() as u64
}

/// Field 22 of /proc/PID/stat, in ns.
fn started_ns(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    fields[19].parse::<u64>().unwrap() * 10_000_000
}

/// A listener, or `None` and a message if that is not permitted.
fn listen(bytes: usize) -> Option<Exits> {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    match Exits::listen(&cpus(&online).unwrap(), &[], bytes, now_ns()) {
        Ok(exits) => Some(exits),
        Err(error @ (Error::Namespace | Error::Refused(_) | Error::Absent)) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Drains until `found` finds what it wants among all reported exits.
fn drain_until<T>(exits: &mut Exits, mut found: impl FnMut(&ExitBuffer) -> Option<T>) -> T {
    let begun = Instant::now();
    let mut buffer = ExitBuffer::default();
    loop {
        exits.drain(now_ns(), 0, |_| None, &mut buffer);
        if let Some(found) = found(&buffer) {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "never reported; {} were lost", exits.lost());
        buffer.clear();
        thread::yield_now();
    }
}

fn end_of(exits: &mut Exits, pid: u32) -> Exit {
    drain_until(exits, |buffer| buffer.exits.iter().find(|exit| exit.identity.pid == pid).cloned())
}

fn shell(script: &str) -> Child {
    Command::new("sh").args(["-c", script]).stderr(Stdio::null()).spawn().unwrap()
}

/// A shell that forks this many children, which do nothing.
fn storm(children: u32) -> Child {
    shell(&format!("i=0; while [ $i -lt {children} ]; do (:); i=$((i+1)); done; exit 0"))
}

#[test]
fn exit_code_signal_and_identity_are_reported() {
    let Some(mut exits) = listen(RECEIVE_BYTES) else { return };
    let mut failed = shell("exit 3");
    failed.wait().unwrap();
    let exit = end_of(&mut exits, failed.id());
    assert_eq!((exit.status, &*exit.comm, exit.parent), (3 << 8, "sh", std::process::id()));
    assert_eq!(exit.uid, nix::unistd::geteuid().as_raw());

    let mut killed = Command::new("sleep").arg("600").spawn().unwrap();
    let (pid, started) = (killed.id(), started_ns(killed.id()));
    killed.kill().unwrap();
    assert_eq!(killed.wait().unwrap().signal(), Some(9));
    let mut buffer = ExitBuffer::default();
    let begun = Instant::now();
    let exit = loop {
        exits.drain(now_ns(), 0, |asked| (asked == pid).then_some(started), &mut buffer);
        if let Some(exit) = buffer.exits.iter().find(|exit| exit.identity.pid == pid) {
            break exit;
        }
        assert!(begun.elapsed() < Duration::from_secs(30));
    };
    assert_eq!((exit.status & 0x7f, exit.identity.started_ns), (9, started));
    assert!(exit.at_ns >= started && exit.at_ns <= now_ns());
}

#[test]
fn the_peak_size_is_reported() {
    let Some(mut exits) = listen(RECEIVE_BYTES) else { return };
    let arguments = ["if=/dev/zero", "of=/dev/null", "bs=50M", "count=1", "status=none"];
    let mut child = Command::new("dd").args(arguments).spawn().unwrap();
    child.wait().unwrap();
    let exit = end_of(&mut exits, child.id());
    assert!((50 << 10..80 << 10).contains(&exit.peak_kib), "{} KiB", exit.peak_kib);
}

/// Not a test: run by the next one, as a process whose threads do all the work and end first.
#[test]
#[ignore = "run by another test"]
fn burn_in_threads() {
    let burn = || {
        let cpu = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
        while cpu() < Duration::from_millis(100) {}
    };
    let threads: Vec<_> = (0..3).map(|_| thread::spawn(burn)).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn the_threads_of_a_process_are_summed_up() {
    let Some(mut exits) = listen(RECEIVE_BYTES) else { return };
    let arguments = ["--exact", "exits::tests::burn_in_threads", "--ignored"];
    let myself = std::env::current_exe().unwrap();
    let begun = Instant::now();
    let mut child = Command::new(&myself).args(arguments).stdout(Stdio::null()).spawn().unwrap();
    child.wait().unwrap();
    let elapsed_us = begun.elapsed().as_micros() as u64;
    let exit = end_of(&mut exits, child.id());
    let cpu_us = exit.user_us + exit.system_us;
    let cores = thread::available_parallelism().unwrap().get() as u64;
    assert!((300_000..=cores * elapsed_us + 10_000).contains(&cpu_us), "{cpu_us} us");
    assert!(exit.lived_us <= elapsed_us);
    let name = myself.file_name().unwrap().to_str().unwrap();
    assert_eq!(&*exit.comm, &name[..15], "the name of the process, not of a thread");
}

#[test]
fn every_child_of_a_storm_is_counted() {
    let Some(mut exits) = listen(RECEIVE_BYTES) else { return };
    let mut parent = storm(2000);
    let (pid, mut told) = (parent.id(), 0);
    drain_until(&mut exits, |buffer| {
        told += buffer.exits.iter().filter(|exit| exit.parent == pid).count() as u64;
        told +=
            buffer.groups.iter().filter(|group| group.parent == pid).map(|group| group.count).sum::<u64>();
        buffer.exits.iter().any(|exit| exit.identity.pid == pid).then_some(())
    });
    parent.wait().unwrap();
    assert_eq!((told, exits.lost()), (2000, 0));
}

/// Two listeners to the same exits.
struct Pair {
    large: Exits,
    small: Exits,
}

impl Pair {
    /// Number of messages so far for each listener, read or lost.
    fn told(&mut self) -> (u64, u64) {
        let told = |exits: &mut Exits| {
            exits.drain(now_ns(), 0, |_| None, &mut ExitBuffer::default());
            exits.messages() + exits.lost()
        };
        (told(&mut self.large), told(&mut self.small))
    }

    /// Number of messages for each since then, and the difference between both.
    fn since(&mut self, (large, small): (u64, u64)) -> (u64, u64) {
        let now = self.told();
        (now.0 - large, (now.0 - large).abs_diff(now.1 - small))
    }

    /// A storm whose messages are read as they arrive, so that even a small buffer gets some consecutive ones.
    fn read_storm(&mut self) {
        let mut children = storm(20);
        while children.try_wait().unwrap().is_none() {
            self.told();
        }
    }
}

#[test]
fn what_a_full_buffer_drops_is_counted() {
    let (Some(large), Some(small)) = (listen(RECEIVE_BYTES), listen(1)) else { return };
    let mut pair = Pair { large, small };
    let begun = Instant::now();
    // For equal counts, each CPU must have begun to count, and no gap may be open.
    let counts = |tap: &Tap| tap.sequence.is_some_and(|sequence| sequence.has_begun());
    let before = loop {
        let before = pair.told();
        pair.read_storm();
        if pair.small.taps.iter().all(counts) && pair.since(before).1 == 0 {
            break before;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the counts do not begin");
    };
    let read = pair.small.messages();
    storm(1000).wait().unwrap();
    pair.told();
    assert!(pair.small.messages() - read < 500, "the buffer is not small");
    // A gap is recognised after the kernel has reported some more tasks, on each CPU.
    loop {
        let (expected, difference) = pair.since(before);
        // Strays to other CPUs, and tasks that end between the two drains.
        if difference < 10 {
            assert!(expected >= 1000 && pair.small.lost() >= 500 && pair.large.lost() == 0);
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{difference} of {expected}");
        pair.read_storm();
    }
}

fn notice(pid: u32, last: bool, group: bool) -> Notice {
    let task = Record {
        pid,
        tgid: Some(10),
        last: Some(last),
        cpu: Cpu { exact_us: 40, user_us: 30, system_us: 10 },
        read_bytes: 4096,
        major_faults: 1,
        ..Record::default()
    };
    let cpu = Cpu { exact_us: 200, ..Cpu::default() };
    let sums = Record { cpu, ..Record::default() };
    Notice { sequence: 0, task, group: group.then_some((10, sums)) }
}

#[test]
fn sums_of_threads_reported_later_are_added() {
    let window = Window { since_ns: 0, now_ns: 50, suspended_ns: 0 };
    let mut joiner = Joiner::new();
    let mut out = ExitBuffer::default();
    for notice in [notice(11, false, false), notice(13, true, true), notice(12, false, false)] {
        joiner.note(&notice, &window, &|_| Some(0), &mut out);
    }
    assert!(out.exits.is_empty());
    joiner.flush(&mut out);
    let exit = &out.exits[0];
    assert_eq!((exit.identity.pid, exit.read_bytes, exit.major_faults), (10, 3 * 4096, 3));
    // An older kernel does not sum up user and system time: 200 in total, which the reported threads spent at 3:1.
    assert_eq!((exit.user_us, exit.system_us), (150, 50));
    joiner.note(&notice(10, true, false), &window, &|_| Some(0), &mut out);
    assert_eq!(out.exits[1].user_us, 30, "a later process of the same pid");
}

#[test]
fn lists_of_cpus_are_read() {
    assert_eq!(cpus("0-2,8\n").unwrap(), [0, 1, 2, 8]);
    assert!(cpus("\n").unwrap().is_empty());
    for bad in ["x", "1-", "0-9999999"] {
        assert!(cpus(bad).is_err(), "{bad}");
    }
}
