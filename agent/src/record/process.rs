//! What `/proc/PID/{stat,statm,status}` say: pure functions over their bytes (proc_pid_stat(5) and its neighbours).

/// Nanoseconds in one clock tick of these files: USER_HZ is 100 on every architecture that Linux has today (time(7)).
const TICK_NS: u64 = 10_000_000;

/// `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat<'a> {
    pub(super) comm: &'a [u8],
    pub(super) state: u8,
    pub(super) parent: u32,
    pub(super) major_faults: u64,
    pub(super) user_ns: u64,
    pub(super) system_ns: u64,
    pub(super) threads: u32,
    /// Since boot.
    pub(super) started_ns: u64,
    pub(super) virtual_kib: u64,
    /// Where the stack began: random at each exec, which tells an exec that kept the name. 0 without permission.
    pub(super) stack_start: u64,
}

/// Parses `stat`. The name may hold spaces, parentheses and newlines, so it ends at the *last* parenthesis.
pub(super) fn parse_stat(bytes: &[u8]) -> Option<Stat<'_>> {
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let comm = bytes.get(open + 1..close)?;
    let mut fields = bytes.get(close + 1..)?.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let state = *fields.next()?.first()?;
    // The state was field 3; `skip` is how many fields lie between the last one taken and the next.
    let mut take = |skip| number(fields.nth(skip)?);
    Some(Stat {
        comm,
        state,
        parent: u32::try_from(take(0)?).ok()?,
        major_faults: take(7)?,
        user_ns: take(1)?.saturating_mul(TICK_NS),
        system_ns: take(0)?.saturating_mul(TICK_NS),
        threads: u32::try_from(take(4)?).ok()?,
        started_ns: take(1)?.saturating_mul(TICK_NS),
        virtual_kib: take(0)? / 1024,
        stack_start: take(4)?,
    })
}

/// Resident size in KiB, from `statm`: exact, where the figure in `stat` may be off by megabytes since Linux 6.2.
pub(super) fn parse_statm(bytes: &[u8], page_kib: u64) -> Option<u64> {
    let field = bytes.split(u8::is_ascii_whitespace).nth(1)?;
    number(field)?.checked_mul(page_kib)
}

/// What is taken from `/proc/PID/status`.
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

/// A decimal number and nothing else.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(digit.into())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &[u8] = b"26096 (apache2 (x) ) D 1200 26096 1200 0 -1 4194624 5000 0 77 0 31000 2000 3 4 20 -5 9 0 \
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
            user_ns: 310_000_000_000,
            system_ns: 20_000_000_000,
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
        }

        #[test]
        fn a_stat_cut_anywhere_is_refused_or_right(length in 0..STAT.len()) {
            if let Some(stat) = parse_stat(&STAT[..length]) {
                prop_assert_eq!(Stat { stack_start: 140_722_222_222_222, ..stat }, parse_stat(STAT).unwrap());
            }
        }
    }
}
