//! The columns of processes: what of a process is coded apart from its identity, in the order of the format.

use std::sync::Arc;

use crate::sample::Process;

/// A set of columns, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns(u32);

/// Defines the columns of numbers, each in a stream of its own.
macro_rules! numbers {
    ($($(#[$doc:meta])+ $constant:ident $index:literal $field:ident: ($($kind:tt)+));+ $(;)?) => {
        impl Columns {
            $($(#[$doc])+ pub const $constant: Self = Self(1 << $index);)+
        }

        /// How many columns hold numbers.
        pub(super) const NUMBERS: usize = [$($index),+].len();

        /// The number in a column.
        #[inline]
        pub(super) fn number(process: &Process, column: usize) -> Option<u64> {
            match column {
                $($index => get!(process.$field, $($kind)+),)+
                _ => None,
            }
        }

        /// Sets the number in a column; fails if it does not fit the field.
        #[inline]
        pub(super) fn set_number(process: &mut Process, column: usize, value: Option<u64>) -> Option<()> {
            match column {
                $($index => set!(process.$field, value, $($kind)+),)+
                _ => return None,
            }
            Some(())
        }

        /// The columns of numbers in which two processes differ.
        #[inline]
        fn differing_numbers(a: &Process, b: &Process) -> u32 {
            0 $(| u32::from(a.$field != b.$field) << $index)+
        }
    };
}

macro_rules! get {
    ($field:expr, optional $type:ty) => {
        $field.map(u64::from)
    };
    ($field:expr, $type:ty) => {
        Some(u64::from($field))
    };
}

macro_rules! set {
    ($field:expr, $value:expr, optional $type:ty) => {
        $field = match $value {
            Some(value) => Some(<$type>::try_from(value).ok()?),
            None => None,
        }
    };
    ($field:expr, $value:expr, $type:ty) => {
        $field = <$type>::try_from($value?).ok()?
    };
}

numbers! {
    /// The parent's pid.
    PARENT 0 parent: (u32);
    /// The user id.
    UID 1 uid: (optional u32);
    /// The state.
    STATE 2 state: (u8);
    /// The threads.
    THREADS 3 threads: (u32);
    /// CPU time in user mode.
    USER 4 user_us: (u64);
    /// CPU time in kernel mode.
    SYSTEM 5 system_us: (u64);
    /// Time without a CPU.
    WAIT 6 wait_us: (optional u64);
    /// Major faults.
    MAJOR_FAULTS 7 major_faults: (u64);
    /// Address space.
    VIRTUAL 8 virtual_kib: (u64);
    /// Resident memory.
    RESIDENT 9 resident_kib: (u64);
    /// Anonymous memory.
    ANON 10 anon_kib: (optional u64);
    /// File pages.
    FILE 11 file_kib: (optional u64);
    /// Shared memory.
    SHMEM 12 shmem_kib: (optional u64);
    /// Swapped memory.
    SWAP 13 swap_kib: (optional u64);
    /// Bytes read.
    READ 14 read_bytes: (optional u64);
    /// Bytes written.
    WRITTEN 15 written_bytes: (optional u64);
}

/// Columns of text: name, user, command line, control group. They share one stream.
pub(super) const TEXTS: usize = 4;

/// How many columns there are.
pub(super) const COUNT: usize = NUMBERS + TEXTS;

/// The text in a column, counted from the first of text.
pub(super) fn text(process: &Process, column: usize) -> Option<&Arc<str>> {
    match column {
        0 => Some(&process.comm),
        1 => process.user.as_ref(),
        2 => process.command.as_ref(),
        _ => process.cgroup.as_ref(),
    }
}

/// Sets the text in a column; fails if there must be one.
pub(super) fn set_text(process: &mut Process, column: usize, text: Option<Arc<str>>) -> Option<()> {
    match column {
        0 => process.comm = text?,
        1 => process.user = text,
        2 => process.command = text,
        _ => process.cgroup = text,
    }
    Some(())
}

/// The columns in which two processes differ.
#[inline]
pub(super) fn differing(a: &Process, b: &Process) -> u32 {
    let texts = u32::from(!same(Some(&a.comm), Some(&b.comm)))
        | u32::from(!same(a.user.as_ref(), b.user.as_ref())) << 1
        | u32::from(!same(a.command.as_ref(), b.command.as_ref())) << 2
        | u32::from(!same(a.cgroup.as_ref(), b.cgroup.as_ref())) << 3;
    differing_numbers(a, b) | texts << NUMBERS
}

/// The same text: nearly always the same bytes in memory.
#[inline]
fn same(a: Option<&Arc<str>>, b: Option<&Arc<str>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
        (None, None) => true,
        _ => false,
    }
}

/// The bits of a set, of columns say, in order.
#[inline]
pub(super) fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = set.trailing_zeros() as usize;
        // Without the lowest bit; there is none left below nothing.
        set &= set.checked_sub(1)?;
        Some(bit)
    })
}

impl Columns {
    /// All columns.
    pub const ALL: Self = Self((1 << COUNT) - 1);

    /// No column of numbers; texts are always there.
    pub const NONE: Self = Self(0);

    /// What a CPU share is made of: [`Process::cpu_us`], and the threads that can have it at once.
    pub const CPU: Self = Self::USER.with(Self::SYSTEM).with(Self::THREADS);

    /// What was moved from and to storage, and by whose children.
    pub const IO: Self = Self::READ.with(Self::WRITTEN).with(Self::PARENT);

    /// What [`Process::footprint_kib`] is made of.
    pub const FOOTPRINT: Self = Self::RESIDENT.with(Self::ANON).with(Self::SWAP);

    /// The columns of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this column of numbers is among them.
    #[inline]
    pub(super) fn has(self, column: usize) -> bool {
        self.0 & (1 << column) != 0
    }

    /// Which of these columns are read: those of text always are.
    #[inline]
    pub(super) fn among(self, columns: u32) -> u32 {
        columns & (self.0 | ((1 << TEXTS) - 1) << NUMBERS)
    }
}
