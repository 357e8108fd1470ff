//! Parses the kernel's messages about an out-of-memory kill.
//!
//! Four generations of one message (mm/oom_kill.c), which overlap:
//! 1. up to 2.6.35: `Out of memory: kill process 4805 (apache2) score 46872 or a child`, `Killed process 22433 (apache2)`;
//! 2. 2.6.36 to 5.2: `Kill process 7 (c) score 9 or sacrifice child`, then `Killed process 8 (c) total-vm:…`, sometimes
//!    with the user id between the two; in a control group `Task in /a killed as a result of limit of /b`;
//! 3. since 5.0 also `oom-kill:constraint=…,task=c,pid=8,uid=0`;
//! 4. since 5.3 one line: `Out of memory: Killed process 8 (c) total-vm:…, UID:0 pgtables:…kB oom_score_adj:0`.
//!
//! Three processes must be distinguished: the one that requested memory (the trigger), the one that was killed (the
//! victim), and the biggest memory user (see [`OomKill::biggest`]); they are often unrelated.

mod inferred;
mod memory_use;
mod table;
#[cfg(test)]
mod tests;

pub use inferred::{InferredKill, SETTLE_NS, counted, inferred};
pub use memory_use::MemoryUse;
pub use table::{Columns, Row};

/// Text in the first line of a kill, after the trigger's name.
pub const INVOKED: &str = " invoked oom-killer: ";
/// Text that precedes a victim, in every generation.
pub const KILLED: &str = "Killed process ";

/// An out-of-memory event with one or several kills.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OomKill {
    /// The process whose request for memory failed. It need not be the one that used the memory up.
    pub trigger: Option<Trigger>,
    /// The processes that were killed.
    pub victims: Vec<Victim>,
    /// The process with the highest score; up to Linux 5.2, a child may have been killed in its place.
    pub scored: Option<Task>,
    /// What ran out: `CONSTRAINT_NONE`, `CONSTRAINT_MEMCG`, …
    pub constraint: Option<String>,
    /// The control group whose limit was reached.
    pub oom_memcg: Option<String>,
    /// The control group of the process that was chosen.
    pub task_memcg: Option<String>,
    /// The control group that was to be killed completely (memory.oom.group).
    pub group: Option<String>,
    /// Memory charged to `oom_memcg`.
    pub usage_kib: Option<u64>,
    /// The limit of `oom_memcg`.
    pub limit_kib: Option<u64>,
    /// Memory use by kind: of `oom_memcg`, or of the machine.
    pub memory: Option<MemoryUse>,
    /// Every process that could have been killed, as the kernel saw it at that moment.
    pub table: Vec<Row>,
    /// Number of lines that were omitted when the text was stored.
    pub left_out: u64,
    /// Memory of victims that remained after the kernel had reclaimed the rest, before they exited.
    pub reaped: Vec<Victim>,
}

/// The process that invoked the OOM killer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trigger {
    /// Name of the process.
    pub comm: String,
    /// Process id, from a later line.
    pub pid: Option<u32>,
    /// The requested kind of memory.
    pub gfp: Option<String>,
    /// The requested size: two to this power, in pages.
    pub order: Option<i32>,
}

/// A process id with its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Process id.
    pub pid: u32,
    /// Name of the process.
    pub comm: String,
}

/// A killed process. Sizes are from the moment it was chosen, if the kernel reports them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Victim {
    /// Process id.
    pub pid: u32,
    /// Name of the process.
    pub comm: String,
    /// User id.
    pub uid: Option<u32>,
    /// Address space.
    pub total_vm_kib: Option<u64>,
    /// Resident anonymous memory.
    pub anon_kib: Option<u64>,
    /// Resident file pages.
    pub file_kib: Option<u64>,
    /// Resident shared memory.
    pub shmem_kib: Option<u64>,
    /// Page tables.
    pub pgtables_kib: Option<u64>,
    /// How strongly the process was protected: −1000 (always) to 1000 (killed first).
    pub oom_score_adj: Option<i32>,
}

/// All processes in the table with the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder<'a> {
    /// Name of the processes.
    pub comm: &'a str,
    /// Number of processes.
    pub processes: u64,
    /// Total memory that they hold, see [`Row::footprint_kib`].
    pub footprint_kib: u64,
}

impl OomKill {
    /// Parses the lines of one event; `None` if they do not describe a kill.
    pub fn parse(text: &str) -> Option<Self> {
        let mut kill = Self::default();
        let mut rows = Vec::new();
        let columns = text.lines().find_map(Columns::parse);
        for line in text.lines() {
            match columns.as_ref().and_then(|columns| columns.row(line)) {
                Some(row) => rows.push(row),
                None => kill.read(line),
            }
        }
        let page_kib = table::page_kib(&rows, &kill.victims);
        kill.memory = MemoryUse::parse(text, page_kib, kill.usage_kib);
        kill.table = rows.iter().map(|row| row.sized(page_kib)).collect();
        kill.mend_page_tables();
        (kill.trigger.is_some() || !kill.victims.is_empty()).then_some(kill)
    }

    /// The process with the most memory that the kernel could not drop.
    pub fn biggest(&self) -> Option<&Row> {
        self.table.iter().max_by_key(|row| row.footprint_kib())
    }

    /// Memory use by process name, largest first: a hundred small workers can be the culprit.
    pub fn by_name(&self) -> Vec<Holder<'_>> {
        let mut holders = std::collections::BTreeMap::new();
        for row in &self.table {
            let comm = row.comm.as_str();
            let holder = holders.entry(comm).or_insert(Holder { comm, processes: 0, footprint_kib: 0 });
            holder.processes += 1;
            holder.footprint_kib = holder.footprint_kib.saturating_add(row.footprint_kib());
        }
        let mut holders: Vec<_> = holders.into_values().collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.footprint_kib));
        holders
    }

    /// Parses a line outside the table.
    fn read(&mut self, line: &str) {
        if let Some((comm, rest)) = line.split_once(INVOKED) {
            self.trigger.get_or_insert_with(|| trigger(comm, rest));
        } else if let Some(rest) = line.strip_prefix("oom-kill:") {
            self.read_summary(rest);
        } else if let Some(rest) = line.strip_prefix("oom_reaper: reaped process ") {
            self.reaped.extend(victim(rest));
        } else if let Some((_, rest)) = line.split_once(KILLED) {
            self.victims.extend(victim(rest));
        } else if let Some(rest) = line.strip_prefix("OOM victim ") {
            self.victims.extend(victim(rest));
        } else if let Some((_, rest)) =
            line.split_once(": Kill process ").or_else(|| line.split_once(": kill process "))
        {
            self.scored = task(rest).map(|(task, _)| task);
        } else if let Some(rest) = line.strip_prefix("Task in ") {
            // Only in 3.x and 4.x.
            if let Some((task, limit)) = rest.split_once(" killed as a result of limit of ") {
                (self.task_memcg, self.oom_memcg) = (Some(task.into()), Some(limit.trim_end().into()));
            }
        } else if let Some(rest) = line.strip_prefix("Tasks in ") {
            self.group = rest.split_once(" are going to be killed").map(|(group, _)| group.into());
        } else if let Some(rest) = line.strip_prefix("memory: usage ") {
            self.usage_kib = number(rest);
            self.limit_kib = after(rest, "limit ").and_then(number);
        } else if let Some(lines) = line.strip_prefix(LEFT_OUT) {
            self.left_out = number(lines).unwrap_or_default();
        } else if let Some(trigger) = self.trigger.as_mut().filter(|trigger| trigger.pid.is_none()) {
            // `CPU: 0 UID: 0 PID: 5918 Comm: x`, or `Pid: 5918, comm: x` up to 3.6.
            let pid = after(line, "PID: ").filter(|_| line.starts_with("CPU: "));
            trigger.pid = pid.or_else(|| line.strip_prefix("Pid: ")).and_then(number);
        }
    }

    /// `constraint=…,nodemask=…,cpuset=…,mems_allowed=…,oom_memcg=…,task_memcg=…,task=…,pid=…,uid=…`.
    fn read_summary(&mut self, line: &str) {
        let until = |text: &str, end: &str| text.split_once(end).map(|(value, _)| value.to_owned());
        self.constraint = after(line, "constraint=").and_then(|rest| until(rest, ","));
        self.oom_memcg = after(line, ",oom_memcg=").and_then(|rest| until(rest, ",task_memcg="));
        let Some((memcg, rest)) = after(line, ",task_memcg=").and_then(|rest| rest.rsplit_once(",task="))
        else {
            return;
        };
        self.task_memcg = Some(memcg.into());
        if let Some((comm, rest)) = rest.rsplit_once(",pid=")
            && let Some(pid) = number(rest)
        {
            self.scored.get_or_insert_with(|| Task { pid, comm: comm.into() });
        }
    }

    /// Linux 5.3 to 5.6 report a victim's page tables in bytes, labelled as kB.
    fn mend_page_tables(&mut self) {
        for victim in &mut self.victims {
            let row = self.table.iter().find(|row| row.pid == victim.pid);
            let in_table = row.and_then(|row| row.pgtables_kib);
            let in_bytes = in_table.and_then(|kib| kib.checked_mul(1024));
            if in_bytes.is_some() && victim.pgtables_kib == in_bytes {
                victim.pgtables_kib = in_table;
            }
        }
    }
}

/// Text at the beginning of the line that replaces omitted lines.
const LEFT_OUT: &str = "lines left out here to keep this short: ";

/// The line that replaces this number of omitted lines in a kill's text.
pub fn left_out(lines: u64) -> String {
    format!("{LEFT_OUT}{lines}")
}

fn trigger(comm: &str, rest: &str) -> Trigger {
    let value = |key| rest.split(", ").find_map(|part| part.strip_prefix(key));
    Trigger {
        comm: comm.into(),
        pid: None,
        gfp: value("gfp_mask=").map(Into::into),
        order: value("order=").and_then(|text| text.trim().parse().ok()),
    }
}

/// Parses `8 (c) total-vm:68532kB, anon-rss:…` and similar.
fn victim(text: &str) -> Option<Victim> {
    let (Task { pid, comm }, rest) = task(text)?;
    let kib = |key| after(rest, key).and_then(number);
    let uid = after(text, ", UID ").or_else(|| after(rest, "UID:"));
    let adjustment =
        after(rest, "oom_score_adj:").map(|text| text.split_whitespace().next().unwrap_or_default());
    Some(Victim {
        pid,
        comm,
        uid: uid.and_then(number),
        total_vm_kib: kib("total-vm:").or_else(|| kib("vsz:")),
        anon_kib: kib("anon-rss:"),
        file_kib: kib("file-rss:"),
        shmem_kib: kib("shmem-rss:"),
        pgtables_kib: kib("pgtables:"),
        oom_score_adj: adjustment.and_then(|text| text.parse().ok()),
    })
}

/// Parses `8 (c)`, or `8, UID 48, (c)` as in RHEL 6; also returns the rest. A name may contain parentheses.
fn task(text: &str) -> Option<(Task, &str)> {
    const BEHIND: [&str; 6] = [") total-vm:", ") vsz:", ") score ", "), now ", ") is already", "), UID "];
    let pid = number(text)?;
    let rest = text.split_once('(')?.1;
    let end = BEHIND.iter().filter_map(|behind| rest.find(behind)).min().or_else(|| rest.rfind(')'))?;
    Some((Task { pid, comm: rest[..end].into() }, &rest[end + 1..]))
}

fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(key).map(|(_, rest)| rest)
}

/// Parses the digits at the beginning of the text.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}
