//! Parsers of the records that `agent/recorder/bpf/tasks.bpf.c` writes, in native byte order: pure functions over
//! bytes.

/// Size of a thread's record, in bytes (`struct thread`).
pub(super) const THREAD_BYTES: usize = 80;
/// Size of a process's record, in bytes (`struct process`).
pub(super) const PROCESS_BYTES: usize = 184;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// A process with its first thread.
    Process(&'a [u8; PROCESS_BYTES]),
    /// A thread other than its process's first.
    Thread(&'a [u8; THREAD_BYTES]),
    /// A living thread of a process whose first thread has exited (`struct survivor`, as long as that of a thread).
    Survivor(&'a [u8; THREAD_BYTES]),
}

/// What a thread adds to the counters of its process (`struct sums`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) runtime_ns: u64,
    pub(super) user_ns: u64,
    pub(super) system_ns: u64,
    pub(super) wait_ns: u64,
    pub(super) major_faults: u64,
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
    /// Pages not yet in the process's own counters, in the order of [`Reading::pages`].
    pub(super) unsettled_pages: [i64; 4],
}

/// The memory of a process whose first thread has exited, according to a living thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Survivor {
    virtual_pages: u64,
    pages: [i64; 4],
    state: u32,
}

impl Survivor {
    /// Replaces the first thread's values.
    pub(super) fn speak_for(&self, process: &mut Reading<'_>) {
        let Self { virtual_pages, pages, state } = *self;
        process.has_memory = true;
        (process.virtual_pages, process.pages, process.state) = (virtual_pages, pages, state);
    }
}

/// A process's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading<'a> {
    pub(super) pid: u32,
    pub(super) sums: Sums,
    pub(super) start_boottime_ns: u64,
    pub(super) exec_id: u64,
    pub(super) cgroup_id: u64,
    pub(super) virtual_pages: u64,
    /// File, anonymous, swapped out, shared.
    pub(super) pages: [i64; 4],
    pub(super) parent: u32,
    pub(super) euid: u32,
    /// Bits of `__state` and `exit_state`.
    pub(super) state: u32,
    pub(super) threads: u32,
    pub(super) comm: &'a [u8; 16],
    /// False for kernel threads and zombies.
    pub(super) has_memory: bool,
    pub(super) has_wait: bool,
    pub(super) has_io: bool,
    /// Whether the pages are the complete count, and not only what the CPUs have added up so far.
    pub(super) is_exact: bool,
}

/// The first record, and the remaining bytes; `None` at the end or at a truncated record.
pub(super) fn next(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (thread, _) = bytes.split_first_chunk::<THREAD_BYTES>()?;
    let rest = &bytes[THREAD_BYTES..];
    match (u32_at(thread, 0), u32_at(thread, 4)) {
        (_, 0) => return Some((Record::Survivor(thread), rest)),
        (process, thread_id) if process != thread_id => return Some((Record::Thread(thread), rest)),
        _ => {}
    }
    let (process, rest) = bytes.split_first_chunk()?;
    Some((Record::Process(process), rest))
}

/// The process of a thread, and the thread's contribution.
pub(super) fn parse_thread(bytes: &[u8; THREAD_BYTES]) -> (u32, Sums) {
    (u32_at(bytes, 0), sums(bytes))
}

/// The process of a surviving thread, and its values.
pub(super) fn parse_survivor(bytes: &[u8; THREAD_BYTES]) -> (u32, Survivor) {
    let pages = [16, 24, 32, 40].map(|at| u64_at(bytes, at).cast_signed());
    (u32_at(bytes, 0), Survivor { virtual_pages: u64_at(bytes, 8), pages, state: u32_at(bytes, 48) })
}

/// Parses a process's record.
pub(super) fn parse_process(bytes: &[u8; PROCESS_BYTES]) -> Reading<'_> {
    Reading {
        pid: u32_at(bytes, 0),
        sums: sums(bytes),
        start_boottime_ns: u64_at(bytes, 80),
        exec_id: u64_at(bytes, 88),
        cgroup_id: u64_at(bytes, 96),
        virtual_pages: u64_at(bytes, 104),
        pages: [112, 120, 128, 136].map(|at| u64_at(bytes, at).cast_signed()),
        parent: u32_at(bytes, 144),
        euid: u32_at(bytes, 148),
        state: u32_at(bytes, 152),
        threads: u32_at(bytes, 156),
        comm: bytes[160..].first_chunk().expect("24 bytes are left"),
        has_memory: bytes[176] != 0,
        has_wait: bytes[177] != 0,
        has_io: bytes[178] != 0,
        is_exact: bytes[179] != 0,
    }
}

fn sums<const N: usize>(bytes: &[u8; N]) -> Sums {
    Sums {
        runtime_ns: u64_at(bytes, 8),
        user_ns: u64_at(bytes, 16),
        system_ns: u64_at(bytes, 24),
        wait_ns: u64_at(bytes, 32),
        major_faults: u64_at(bytes, 40),
        read_bytes: u64_at(bytes, 48),
        written_bytes: u64_at(bytes, 56),
        unsettled_pages: [64, 68, 72, 76].map(|at| u32_at(bytes, at).cast_signed().into()),
    }
}

impl Sums {
    /// Adds the sums of another thread.
    pub(super) fn add(&mut self, other: &Self) {
        self.runtime_ns += other.runtime_ns;
        self.user_ns += other.user_ns;
        self.system_ns += other.system_ns;
        self.wait_ns += other.wait_ns;
        self.major_faults += other.major_faults;
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
        for (pages, more) in self.unsettled_pages.iter_mut().zip(other.unsettled_pages) {
            *pages += more;
        }
    }
}

/// The letter that /proc shows for these bits (`task_state_index` in include/linux/sched.h).
pub(super) fn letter(state: u32) -> u8 {
    const UNINTERRUPTIBLE: u32 = 0x2;
    const NO_LOAD: u32 = 0x400;
    const LOCK_WAIT: u32 = 0x1000;
    const FROZEN: u32 = 0x8000;
    const REPORTED: u32 = 0x7f;
    const IDLE: u32 = UNINTERRUPTIBLE | NO_LOAD;
    let reported = if state & IDLE == IDLE {
        0x80
    } else if state & (LOCK_WAIT | FROZEN) != 0 {
        UNINTERRUPTIBLE
    } else {
        state & REPORTED
    };
    b"RSDTtXZPI"[(u32::BITS - reported.leading_zeros()) as usize]
}

fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from_ne_bytes(*bytes[at..].first_chunk().expect("offsets are constants within the record"))
}

fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_ne_bytes(*bytes[at..].first_chunk().expect("offsets are constants within the record"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_survivor_differs_from_a_thread_and_represents_its_process() {
        let mut bytes = [0; 2 * THREAD_BYTES];
        let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        // A thread 8 of process 7, then the values of a thread of process 7.
        put(0, u64::from_ne_bytes([7u32.to_ne_bytes(), 8u32.to_ne_bytes()].concat().try_into().unwrap()));
        put(80, u64::from_ne_bytes([7u32.to_ne_bytes(), [0; 4]].concat().try_into().unwrap()));
        put(88, 900);
        put(104, 500);
        put(128, 1);
        let (first, rest) = next(&bytes).unwrap();
        assert!(matches!(first, Record::Thread(_)));
        let Some((Record::Survivor(survivor), [])) = next(rest) else { panic!() };
        let (pid, survivor) = parse_survivor(survivor);
        assert_eq!(pid, 7);
        let mut process = parse_process(&[0; PROCESS_BYTES]);
        survivor.speak_for(&mut process);
        assert_eq!((process.virtual_pages, process.pages, process.state), (900, [0, 500, 0, 0], 1));
        assert!(process.has_memory);
    }

    #[test]
    fn states_have_the_letters_of_proc() {
        let letters =
            [(0, b'R'), (1, b'S'), (2, b'D'), (4, b'T'), (8, b't'), (0x10, b'X'), (0x20, b'Z'), (0x40, b'P')];
        for (bits, expected) in letters {
            assert_eq!(letter(bits) as char, expected as char);
        }
        assert_eq!(letter(0x402), b'I');
        assert_eq!(letter(0x80 | 0x20), b'Z', "a dead task is still a zombie");
        assert_eq!(letter(0x8000), b'D', "frozen");
        assert_eq!(letter(0x102), b'D', "killable");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            while let Some((record, behind)) = next(rest) {
                prop_assert!(behind.len() < rest.len());
                match record {
                    Record::Process(process) => drop(letter(parse_process(process).state)),
                    Record::Thread(thread) => drop(parse_thread(thread)),
                    Record::Survivor(thread) => drop(parse_survivor(thread)),
                }
                rest = behind;
            }
        }
    }
}
