//! Parsers of the files in `/proc/PID`: pure functions over bytes (proc_pid_stat(5) and its neighbours).

use super::super::TICK_NS;
use crate::number::number;

const TICK_US: u64 = TICK_NS / 1000;

/// Fields of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat<'a> {
    pub(super) comm: &'a [u8],
    pub(super) state: u8,
    pub(super) parent: u32,
    pub(super) major_faults: u64,
    /// Page faults and CPU time of exited children, added up: grows when the process waits for one.
    pub(super) children: u64,
    pub(super) user_us: u64,
    pub(super) system_us: u64,
    pub(super) threads: u32,
    /// Time of the start since boot.
    pub(super) started_ns: u64,
    pub(super) virtual_kib: u64,
    /// Start of the stack: random at each exec, so it reveals an exec that keeps the name. 0 without permission.
    pub(super) stack_start: u64,
}

impl Stat<'_> {
    /// Whether the first thread exited before others: the memory fields then describe only that thread, which has none.
    pub(super) fn has_lost_its_first_thread(&self) -> bool {
        matches!(self.state, b'Z' | b'X') && self.threads > 1
    }
}

/// Parses `stat`. The name may contain spaces, parentheses and newlines, so it ends at the *last* parenthesis.
pub(super) fn parse_stat(bytes: &[u8]) -> Option<Stat<'_>> {
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let comm = bytes.get(open + 1..close)?;
    let [b' ', state, rest @ ..] = bytes.get(close + 1..)? else { return None };
    // The state was field 3; `skip` takes the number of fields between the last and the next one read.
    let mut fields = Fields(rest);
    let mut take = |skip| fields.skip(skip).and_then(Fields::number);
    let parent = u32::try_from(take(0)?).ok()?;
    let (minor_of_children, major_faults, major_of_children) = (take(6)?, take(0)?, take(0)?);
    let (user, system, user_of_children, system_of_children) = (take(0)?, take(0)?, take(0)?, take(0)?);
    let of_children = [minor_of_children, major_of_children, user_of_children, system_of_children];
    Some(Stat {
        comm,
        state: *state,
        parent,
        major_faults,
        children: of_children.into_iter().fold(0, u64::wrapping_add),
        user_us: user.saturating_mul(TICK_US),
        system_us: system.saturating_mul(TICK_US),
        threads: u32::try_from(take(2)?).ok()?,
        started_ns: take(1)?.saturating_mul(TICK_NS),
        virtual_kib: take(0)? / 1024,
        stack_start: take(4)?,
    })
}

/// Fields, each preceded by one space and followed by a space or a newline.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// Skips `count` fields.
    fn skip(&mut self, count: usize) -> Option<&mut Self> {
        for _ in 0..count {
            let behind = self.0.strip_prefix(b" ")?;
            let length = behind.iter().position(|byte| *byte == b' ')?;
            self.0 = &behind[length..];
        }
        Some(self)
    }

    /// The next number. A number at the end of the bytes may be truncated and is refused.
    fn number(&mut self) -> Option<u64> {
        let [b' ', behind @ ..] = self.0 else { return None };
        let mut value = 0u64;
        for (index, byte) in behind.iter().enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                self.0 = &behind[index..];
                return (index > 0).then_some(value);
            }
            value = value.checked_mul(10)?.checked_add(digit.into())?;
        }
        None
    }
}

/// The task's name in the kernel. For a kernel worker, /proc shows a longer name that changes with each piece of work
/// (wq_worker_comm in kernel/workqueue.c).
pub(super) fn task_name(comm: &[u8]) -> &[u8] {
    const WORKER: &[u8] = b"kworker/";
    match comm.strip_prefix(WORKER) {
        Some(worker) if !worker.starts_with(b"R-") => {
            let end = worker.iter().position(|byte| matches!(byte, b'-' | b'+')).unwrap_or(worker.len());
            &comm[..WORKER.len() + end]
        }
        _ => comm,
    }
}

/// Resident size in KiB, from `statm`: exact, whereas `stat` may be off by megabytes since Linux 6.2.
pub(super) fn parse_statm(bytes: &[u8], page_kib: u64) -> Option<u64> {
    let field = bytes.split(u8::is_ascii_whitespace).nth(1)?;
    number(field)?.checked_mul(page_kib)
}

/// Run-queue wait of a task, in ns: the second field of `schedstat`.
pub(super) fn parse_schedstat(bytes: &[u8]) -> Option<u64> {
    number(bytes.split(u8::is_ascii_whitespace).nth(1)?)
}

/// Bytes that a process caused to be read from and written to disks: `io`, proc_pid_io(5).
pub(super) fn parse_io(bytes: &[u8]) -> Option<(u64, u64)> {
    let value = |key: &[u8]| {
        let line = bytes.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key))?;
        number(line.trim_ascii())
    };
    Some((value(b"read_bytes:")?, value(b"write_bytes:")?))
}

/// Fields of `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Effective user id.
    pub(super) uid: Option<u32>,
    pub(super) anon_kib: Option<u64>,
    pub(super) file_kib: Option<u64>,
    pub(super) shmem_kib: Option<u64>,
    pub(super) swap_kib: Option<u64>,
}

/// Parses `status`. Kernel threads and zombies have no memory lines.
pub(super) fn parse_status(bytes: &[u8]) -> Status {
    let mut status = Status::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        // Skip most lines by their first letters.
        if !matches!(line.first(), Some(b'U' | b'R' | b'V')) {
            continue;
        }
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let Some(key) = words.next() else { continue };
        let mut value = |index| number(words.nth(index)?);
        match key {
            b"Uid:" => status.uid = value(1).and_then(|uid| u32::try_from(uid).ok()),
            b"RssAnon:" => status.anon_kib = value(0),
            b"RssFile:" => status.file_kib = value(0),
            b"RssShmem:" => status.shmem_kib = value(0),
            b"VmSwap:" => status.swap_kib = value(0),
            _ => {}
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &[u8] = b"26096 (apache2 (x) ) D 1200 26096 1200 0 -1 4194624 5000 600 77 50 31000 2000 3 4 20 -5 9 0 \
        1234567 164589568 1493 18446744073709551615 94000000000000 94000000100000 140722222222222 0 0 0 0 4096 0 0 \
        0 0 17 1 0 0 0 0 0 94000000200000 94000000300000 94000000400000 140722222222300 140722222222333 \
        140722222222333 140722222222400 0\n";

    #[test]
    fn stat_is_split_behind_the_last_parenthesis() {
        let expected = Stat {
            comm: b"apache2 (x) ",
            state: b'D',
            parent: 1200,
            major_faults: 77,
            children: 600 + 50 + 3 + 4,
            user_us: 310_000_000,
            system_us: 20_000_000,
            threads: 9,
            started_ns: 12_345_670_000_000,
            virtual_kib: 160_732,
            stack_start: 140_722_222_222_222,
        };
        assert_eq!(parse_stat(STAT), Some(expected));
    }

    #[test]
    fn this_process_is_parsed_like_any_other() {
        let stat = std::fs::read("/proc/self/stat").unwrap();
        let stat = parse_stat(&stat).unwrap();
        assert_eq!(stat.parent, std::os::unix::process::parent_id());
        let status = parse_status(&std::fs::read("/proc/self/status").unwrap());
        assert_eq!(status.uid, Some(nix::unistd::geteuid().as_raw()));
        assert!(status.anon_kib > Some(0));
    }

    #[test]
    fn resident_size_is_counted_in_pages() {
        assert_eq!(parse_statm(b"40183 1493 1000 120 0 300 0\n", 4), Some(5_972));
        assert_eq!(parse_statm(b"40183", 4), None);
    }

    #[test]
    fn a_kernel_worker_is_named_without_its_work() {
        assert_eq!(task_name(b"kworker/u9:0-flush-254:0"), b"kworker/u9:0");
        assert_eq!(task_name(b"kworker/0:1+events"), b"kworker/0:1");
        assert_eq!(task_name(b"kworker/0:1H"), b"kworker/0:1H");
        assert_eq!(task_name(b"kworker/R-netns"), b"kworker/R-netns");
        assert_eq!(task_name(b"a-b+c"), b"a-b+c");
    }

    #[test]
    fn waits_and_transfers_are_found() {
        assert_eq!(parse_schedstat(b"123456 789 42\n"), Some(789));
        let io = b"rchar: 9\nwchar: 8\nsyscr: 7\nsyscw: 6\nread_bytes: 4096\nwrite_bytes: 512\ncancelled_write_bytes: 0\n";
        assert_eq!(parse_io(io), Some((4096, 512)));
    }

    #[test]
    fn status_of_a_kernel_thread_has_no_memory() {
        let status = parse_status(b"Name:\tkthreadd\nUid:\t0\t0\t0\t0\nThreads:\t1\n");
        assert_eq!(status, Status { uid: Some(0), ..Status::default() });
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            let _ = parse_stat(&bytes);
            let _ = parse_statm(&bytes, 4);
            let _ = parse_status(&bytes);
            let _ = parse_schedstat(&bytes);
            let _ = parse_io(&bytes);
            let _ = task_name(&bytes);
        }

        #[test]
        fn a_stat_cut_anywhere_is_refused_or_right(length in 0..STAT.len()) {
            if let Some(stat) = parse_stat(&STAT[..length]) {
                prop_assert_eq!(stat, parse_stat(STAT).unwrap());
            }
        }
    }
}
