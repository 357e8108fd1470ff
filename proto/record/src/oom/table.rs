//! The kernel's table of tasks at a kill, parsed by column names, which differ between kernels:
//!
//! ```text
//! 2.6.36  [ pid ]   uid  tgid total_vm      rss cpu oom_adj oom_score_adj name
//! 3.x     [ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name
//! 4.x     [ pid ]   uid  tgid total_vm      rss nr_ptes nr_pmds swapents oom_score_adj name
//! 4.15    [ pid ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
//! 5.0     [  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
//! 6.8     [  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name
//! ```

use super::Victim;

/// Maximum number of columns between the pid and the name. No kernel has more than eleven.
const MAX_COLUMNS: usize = 16;

/// The columns of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns(Vec<Column>);

/// The content of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Uid,
    Tgid,
    TotalVm,
    Rss,
    Anon,
    File,
    Shmem,
    /// Pages of page tables, at any level.
    TablePages,
    TableBytes,
    Swap,
    Adjustment,
    Other,
}

/// A process in the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Thread that represents the process: usually equal to `tgid`.
    pub pid: u32,
    /// Process id.
    pub tgid: u32,
    /// User id.
    pub uid: u32,
    /// Address space.
    pub total_vm_kib: u64,
    /// Resident memory.
    pub rss_kib: u64,
    /// Resident anonymous memory; since Linux 6.8, like the next two.
    pub anon_kib: Option<u64>,
    /// Resident file pages.
    pub file_kib: Option<u64>,
    /// Resident shared memory.
    pub shmem_kib: Option<u64>,
    /// Page tables; since Linux 3.x.
    pub pgtables_kib: Option<u64>,
    /// Swapped memory; since Linux 3.x.
    pub swap_kib: Option<u64>,
    /// How strongly the process was protected: −1000 (always) to 1000 (killed first).
    pub oom_score_adj: Option<i32>,
    /// Name of the process.
    pub comm: String,
}

impl Row {
    /// Memory that the kernel could not drop: anonymous memory and swap. Older tables do not split resident memory,
    /// so all of it counts.
    pub fn footprint_kib(&self) -> u64 {
        self.anon_kib.unwrap_or(self.rss_kib).saturating_add(self.swap_kib.unwrap_or_default())
    }
}

/// A row in the kernel's own units: pages, and bytes.
#[derive(Clone, Debug)]
pub struct RawRow<'a> {
    pid: u32,
    values: [i64; MAX_COLUMNS],
    columns: &'a [Column],
    comm: &'a str,
}

impl Columns {
    /// Parses the header line.
    pub fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.strip_prefix('[')?.split_once(']')?;
        let names: Vec<_> = rest.split_whitespace().collect();
        let (last, names) = names.split_last()?;
        let is_header = pid.trim() == "pid" && *last == "name" && names.contains(&"total_vm");
        if !is_header || names.len() > MAX_COLUMNS {
            return None;
        }
        let column = |name: &&str| match *name {
            "uid" => Column::Uid,
            "tgid" => Column::Tgid,
            "total_vm" => Column::TotalVm,
            "rss" => Column::Rss,
            "rss_anon" => Column::Anon,
            "rss_file" => Column::File,
            "rss_shmem" => Column::Shmem,
            "nr_ptes" | "nr_pmds" | "nr_puds" => Column::TablePages,
            "pgtables_bytes" => Column::TableBytes,
            "swapents" => Column::Swap,
            "oom_score_adj" => Column::Adjustment,
            _ => Column::Other,
        };
        Some(Self(names.iter().map(column).collect()))
    }

    /// Parses a row; `None` if the line is not one.
    pub fn row<'a>(&'a self, line: &'a str) -> Option<RawRow<'a>> {
        let (pid, mut rest) = line.strip_prefix('[')?.split_once(']')?;
        let mut row =
            RawRow { pid: pid.trim().parse().ok()?, values: [0; MAX_COLUMNS], columns: &self.0, comm: "" };
        for value in row.values.iter_mut().take(self.0.len()) {
            rest = rest.trim_start();
            let end = rest.find(' ').unwrap_or(rest.len());
            *value = rest[..end].parse().ok()?;
            rest = &rest[end..];
        }
        row.comm = rest.strip_prefix(' ').unwrap_or(rest);
        Some(row)
    }
}

impl RawRow<'_> {
    /// The sum of all columns of this kind; `None` if there are none.
    fn value(&self, column: Column) -> Option<u64> {
        let of_kind = self.columns.iter().zip(self.values).filter(|(found, _)| **found == column);
        of_kind.map(|(_, value)| u64::try_from(value).unwrap_or_default()).reduce(u64::saturating_add)
    }

    /// Number of pages that are resident or swapped out.
    pub fn pages(&self) -> u64 {
        let value = |column| self.value(column).unwrap_or_default();
        value(Column::Rss).saturating_add(value(Column::Swap))
    }

    pub(super) fn sized(&self, page_kib: u64) -> Row {
        let kib = |column| self.value(column).map(|pages| pages.saturating_mul(page_kib));
        let id = |column| self.value(column).and_then(|id| u32::try_from(id).ok());
        let adjustment = self.columns.iter().position(|column| *column == Column::Adjustment);
        Row {
            pid: self.pid,
            tgid: id(Column::Tgid).unwrap_or(self.pid),
            uid: id(Column::Uid).unwrap_or_default(),
            total_vm_kib: kib(Column::TotalVm).unwrap_or_default(),
            rss_kib: kib(Column::Rss).unwrap_or_default(),
            anon_kib: kib(Column::Anon),
            file_kib: kib(Column::File),
            shmem_kib: kib(Column::Shmem),
            pgtables_kib: self
                .value(Column::TableBytes)
                .map(|bytes| bytes / 1024)
                .or_else(|| kib(Column::TablePages)),
            swap_kib: kib(Column::Swap),
            oom_score_adj: adjustment.and_then(|index| i32::try_from(self.values[index]).ok()),
            comm: self.comm.to_owned(),
        }
    }
}

/// The page size in KiB, which the text does not contain: compares a victim's address space in pages, from the table,
/// with that in kB, from the line of its kill. 4 KiB if they cannot be compared.
pub(super) fn page_kib(rows: &[RawRow<'_>], victims: &[Victim]) -> u64 {
    let compared = victims.iter().find_map(|victim| {
        let row = rows.iter().find(|row| row.pid == victim.pid)?;
        let pages = row.value(Column::TotalVm).filter(|pages| *pages > 0)?;
        Some(victim.total_vm_kib? / pages)
    });
    compared.filter(|kib| matches!(kib, 4 | 8 | 16 | 64)).unwrap_or(4)
}
