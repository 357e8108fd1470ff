//! The columns of processes: the fields that are encoded separately from the identity, in the order of the format.

use std::sync::Arc;

use crate::sample::Process;

/// A set of columns, with a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns(u32);

/// Defines the columns of numbers, each in a stream of its own.
macro_rules! numbers {
    ($($(#[$doc:meta])+ $constant:ident $index:literal $field:ident: ($($kind:tt)+));+ $(;)?) => {
        impl Columns {
            $($(#[$doc])+ pub const $constant: Self = Self(1 << $index);)+
        }

        /// Number of columns of numbers.
        pub(super) const NUMBERS: usize = [$($index),+].len();

        /// The value in a column of numbers.
        #[inline]
        pub(super) fn number(process: &Process, column: usize) -> Option<u64> {
            match column {
                $($index => get!(process.$field, $($kind)+),)+
                _ => None,
            }
        }

        /// Sets the value in a column of numbers; fails if it does not fit the field.
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

/// Number of columns.
pub(super) const COUNT: usize = NUMBERS + TEXTS;

/// The text in a column, counted from the first column of text.
pub(super) fn text(process: &Process, column: usize) -> Option<&Arc<str>> {
    match column {
        0 => Some(&process.comm),
        1 => process.user.as_ref(),
        2 => process.command.as_ref(),
        _ => process.cgroup.as_ref(),
    }
}

/// Sets the text in a column; fails if the text is absent but required.
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

/// Whether two texts are equal: nearly always they are the same bytes in memory.
#[inline]
fn same(a: Option<&Arc<str>>, b: Option<&Arc<str>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
        (None, None) => true,
        _ => false,
    }
}

/// Indexes of the bits in a set, for example of columns, in ascending order.
#[inline]
pub(super) fn bits(mut set: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = set.trailing_zeros() as usize;
        // Clears the lowest bit; ends at zero.
        set &= set.checked_sub(1)?;
        Some(bit)
    })
}

impl Columns {
    /// Control groups, which are no column of processes.
    pub const GROUPS: Self = Self(1 << COUNT);

    /// All columns, and [`Columns::GROUPS`].
    pub const ALL: Self = Self((1 << (COUNT + 1)) - 1);

    /// No column of numbers; texts are always read.
    pub const NONE: Self = Self(0);

    /// Columns for a CPU share: [`Process::cpu_us`], and the number of threads, which limits it.
    pub const CPU: Self = Self::USER.with(Self::SYSTEM).with(Self::THREADS);

    /// Columns for I/O: bytes read and written, and the parent.
    pub const IO: Self = Self::READ.with(Self::WRITTEN).with(Self::PARENT);

    /// Columns for [`Process::footprint_kib`].
    pub const FOOTPRINT: Self = Self::RESIDENT.with(Self::ANON).with(Self::SWAP);

    /// The union of both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this set contains a column of numbers.
    #[inline]
    pub(super) fn has(self, column: usize) -> bool {
        self.0 & (1 << column) != 0
    }

    /// Whether this set contains [`Columns::GROUPS`].
    pub(super) fn has_groups(self) -> bool {
        self.0 & Self::GROUPS.0 != 0
    }

    /// The part of `columns` that must be read: columns of text always are.
    #[inline]
    pub(super) fn among(self, columns: u32) -> u32 {
        columns & (self.0 | ((1 << TEXTS) - 1) << NUMBERS)
    }
}
