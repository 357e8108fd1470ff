//! All processes of the latest sweep, in ascending order of identity, with what is remembered about each.
//!
//! A collector walks the table in step with its readings, which are also in ascending order: [`Table::begin`],
//! [`Table::meet`] for each process found, [`Table::finish`]. Processes that were not met are gone. Nothing is
//! allocated while the set of processes stays the same: rows are updated in place, and strings are rebuilt only if
//! they change.

use std::{mem, sync::Arc};

use record::{Identity, Process};

use super::{kept::Watch, users::Users};

/// Size of a name in the kernel, with its terminating zero (TASK_COMM_LEN).
const COMM_BYTES: usize = 16;

/// Number of new processes in one walk for which memory is always reserved.
const USUAL_NEWCOMERS: usize = 64;

/// Number of walks in which every process's command line is read again, and the minimum number read in each walk.
const TITLE_TURNS: usize = 60;
const LEAST_TITLES: usize = 8;

/// All processes.
#[derive(Debug)]
pub(super) struct Table {
    processes: Vec<Process>,
    /// One mark for each process, at the same index.
    marks: Vec<Mark>,
    /// Processes that are new in this walk.
    newcomers: Vec<(Process, Mark)>,
    /// Processes that disappeared in the last walk, in order.
    gone: Vec<Identity>,
    /// The process whose command line was last read in turn.
    turn: Identity,
    /// All rows before this index were met in this walk.
    met: usize,
    /// Index of the next row to compare; rows between `met` and `next` were not met.
    next: usize,
    users: Users,
    wanting: bool,
}

/// What is remembered about a process but not recorded.
#[derive(Debug, Default)]
pub(super) struct Mark {
    comm: [u8; COMM_BYTES],
    /// Changes with each exec.
    exec: Option<u64>,
    /// Changes when the process moves to another cgroup.
    cgroup: Option<u64>,
    wants: Wants,
    waited: Waited,
    /// User and system time as last reported, ns.
    pub(super) shown: (u64, u64),
    /// State of the /proc collector.
    pub(super) watch: Watch,
}

/// Details to be read outside the sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    /// The command line: the process is new or has run exec.
    pub(super) command: bool,
    /// The cgroup: the process is new or was moved, or its turn has come.
    pub(super) cgroup: bool,
}

impl Wants {
    /// Whether any detail is wanted.
    pub(super) fn any(self) -> bool {
        self.command || self.cgroup
    }
}

/// Run-queue wait. The kernel's sum covers only living threads, so the recorded value accumulates its increases.
#[derive(Clone, Copy, Debug, Default)]
struct Waited {
    living_ns: u64,
    total_ns: u64,
}

/// One process in a walk.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) process: &'a mut Process,
    pub(super) mark: &'a mut Mark,
    users: &'a Users,
    wanting: &'a mut bool,
}

impl Table {
    /// An empty table without users.
    pub(super) fn new() -> Self {
        Self {
            processes: Vec::new(),
            marks: Vec::new(),
            newcomers: Vec::new(),
            gone: Vec::new(),
            turn: Identity::default(),
            met: 0,
            next: 0,
            users: Users::default(),
            wanting: false,
        }
    }

    /// All processes, in strictly ascending order of identity.
    pub(super) fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// Swaps the processes with those of a sample: both must have the same set between two walks.
    pub(super) fn exchange(&mut self, processes: &mut Vec<Process>) {
        mem::swap(&mut self.processes, processes);
    }

    /// Begins a walk.
    pub(super) fn begin(&mut self) {
        self.met = 0;
        self.next = 0;
        self.newcomers.clear();
    }

    /// Replaces the names of users.
    pub(super) fn rename(&mut self, users: Users) {
        self.users = users;
        for process in &mut self.processes {
            process.user = process.uid.and_then(|uid| self.users.name(uid));
        }
    }

    /// The mark of the process that had this pid in the last walk. Drops processes with lower pids.
    pub(super) fn peek(&mut self, pid: u32) -> Option<&Mark> {
        while self.processes.get(self.next).is_some_and(|process| process.identity.pid < pid) {
            self.next += 1;
        }
        (self.processes.get(self.next)?.identity.pid == pid).then(|| &self.marks[self.next])
    }

    /// The row of this process; a new row if it is not in the table. Identities must ascend within a walk.
    pub(super) fn meet(&mut self, identity: Identity) -> Row<'_> {
        while self.processes.get(self.next).is_some_and(|process| process.identity < identity) {
            self.next += 1;
        }
        let known = self.processes.get(self.next).is_some_and(|process| process.identity == identity);
        let (process, mark) = if known {
            self.keep();
            (&mut self.processes[self.met - 1], &mut self.marks[self.met - 1])
        } else {
            self.wanting = true;
            self.newcomers.push((Process::bare(identity), Mark::new()));
            let (process, mark) = self.newcomers.last_mut().expect("it was just put there");
            (process, mark)
        };
        Row { process, mark, users: &self.users, wanting: &mut self.wanting }
    }

    /// Moves the next row down to the others that were met.
    fn keep(&mut self) {
        if self.met != self.next {
            self.processes.swap(self.met, self.next);
            self.marks.swap(self.met, self.next);
        }
        self.met += 1;
        self.next += 1;
    }

    /// Ends a walk: removes processes that were not met, and inserts new ones.
    pub(super) fn finish(&mut self) {
        // `keep` moved the rows that were met to the front, so the rest is gone, in any order.
        self.gone.clear();
        self.gone.extend(self.processes[self.met..].iter().map(|process| process.identity));
        self.gone.sort_unstable();
        self.processes.truncate(self.met);
        self.marks.truncate(self.met);
        let Some((first, _)) = self.newcomers.first() else { return };
        if self.processes.last().is_some_and(|last| last.identity > first.identity) {
            self.merge();
        } else {
            // Appends in almost all cases: process ids ascend until they wrap.
            for (process, mark) in self.newcomers.drain(..) {
                self.processes.push(process);
                self.marks.push(mark);
            }
        }
        // In the first walk, all processes are new.
        self.newcomers.shrink_to(USUAL_NEWCOMERS);
    }

    fn merge(&mut self) {
        let total = self.processes.len() + self.newcomers.len();
        let known = mem::replace(&mut self.processes, Vec::with_capacity(total));
        let mut known =
            known.into_iter().zip(mem::replace(&mut self.marks, Vec::with_capacity(total))).peekable();
        let mut put = |(process, mark)| {
            self.processes.push(process);
            self.marks.push(mark);
        };
        for newcomer in self.newcomers.drain(..) {
            while let Some(row) = known.next_if(|row| row.0.identity < newcomer.0.identity) {
                put(row);
            }
            put(newcomer);
        }
        known.for_each(put);
    }

    /// Requests the wanted details until `ask` refuses: the rest follows next time.
    pub(super) fn ask(&mut self, mut ask: impl FnMut(&Process, Wants) -> bool) {
        if !mem::take(&mut self.wanting) {
            return;
        }
        for (process, mark) in self.processes.iter().zip(&mut self.marks) {
            if !mark.wants.any() {
                continue;
            }
            if !ask(process, mark.wants) {
                self.wanting = true;
                return;
            }
            mark.wants = Wants::default();
        }
    }

    /// Requests the command lines of some processes in turn: a process may change its title at any time.
    pub(super) fn ask_in_turn(&mut self, mut ask: impl FnMut(&Process, Wants) -> bool) {
        let wants = Wants { command: true, cgroup: false };
        let count = self.processes.len().div_ceil(TITLE_TURNS).max(LEAST_TITLES);
        let next = self.processes.partition_point(|process| process.identity <= self.turn);
        let (before, after) = self.processes.split_at(next);
        for process in after.iter().chain(before).filter(|process| process.command.is_some()).take(count) {
            if !ask(process, wants) {
                return;
            }
            self.turn = process.identity;
        }
    }

    /// Assumes the parent's control group, which children inherit, for new processes until their own has been read.
    pub(super) fn inherit_cgroups(&mut self) {
        for index in 0..self.processes.len() {
            let Process { identity, parent, cgroup: None, .. } = self.processes[index] else { continue };
            let behind = self.processes.partition_point(|process| process.identity.pid <= parent);
            let older = |process: &&Process| {
                process.identity.pid == parent && process.identity.started_ns <= identity.started_ns
            };
            let inherited =
                self.processes[..behind].last().filter(older).and_then(|found| found.cgroup.clone());
            self.processes[index].cgroup = inherited;
        }
    }

    /// Leaves out the I/O of processes that have just waited for a child. The kernel has added the child's; without a
    /// record of the exit, how much that was is unknown. The collector reads the I/O again.
    pub(super) fn leave_out_inherited_io(&mut self) {
        for (process, mark) in self.processes.iter_mut().zip(&mut self.marks) {
            if mem::take(&mut mark.watch.reaped) {
                (process.read_bytes, process.written_bytes) = (None, None);
                mark.watch.traffic_at = None;
            }
        }
    }

    /// Start time of the process with this pid that disappeared in the last walk, if any.
    pub(super) fn gone_with(&self, pid: u32) -> Option<u64> {
        let place = self.gone.binary_search_by_key(&pid, |identity| identity.pid).ok()?;
        Some(self.gone[place].started_ns)
    }

    /// The process with this identity, if it still exists.
    pub(super) fn find(&mut self, identity: Identity) -> Option<&mut Process> {
        let row = self.processes.binary_search_by_key(&identity, |process| process.identity).ok()?;
        Some(&mut self.processes[row])
    }
}

impl Mark {
    fn new() -> Self {
        Self { wants: Wants { command: false, cgroup: true }, ..Self::default() }
    }
}

impl Row<'_> {
    /// Sets the name of the main thread; for programs, the kernel shows at most 15 bytes.
    pub(super) fn name(&mut self, comm: &[u8]) {
        let mut padded = [0; COMM_BYTES];
        let length = comm.len().min(COMM_BYTES - 1);
        padded[..length].copy_from_slice(&comm[..length]);
        self.name_padded(&padded);
    }

    /// Sets the name in the kernel's format, which ends at the first zero.
    pub(super) fn name_padded(&mut self, comm: &[u8; COMM_BYTES]) {
        if self.mark.comm != *comm {
            self.mark.comm = *comm;
            let text = comm.split(|byte| *byte == 0).next().unwrap_or_default();
            self.process.comm = Arc::from(String::from_utf8_lossy(text).as_ref());
        }
    }

    /// Sets the effective user.
    pub(super) fn own(&mut self, uid: u32) {
        if self.process.uid != Some(uid) {
            self.process.uid = Some(uid);
            self.process.user = self.users.name(uid);
        }
    }

    /// Notes a value that changes with each exec. A change requests the command line and returns true, except for
    /// kernel threads and zombies: they have no command line, and a zombie's last one is worth keeping.
    pub(super) fn ran(&mut self, exec: u64) -> bool {
        let changed = self.mark.exec != Some(exec);
        if changed {
            self.mark.exec = Some(exec);
            self.mark.wants.command = true;
            *self.wanting = true;
        }
        changed
    }

    /// Notes a value that changes when the process moves to another cgroup. A change requests the cgroup.
    pub(super) fn moved(&mut self, cgroup: u64) {
        if self.mark.cgroup.replace(cgroup).is_some_and(|before| before != cgroup) {
            self.want_cgroup();
        }
    }

    /// Requests the cgroup.
    pub(super) fn want_cgroup(&mut self) {
        self.mark.wants.cgroup = true;
        *self.wanting = true;
    }

    /// Notes how long all living threads together have waited for a CPU.
    pub(super) fn waited(&mut self, living_ns: u64) {
        let waited = &mut self.mark.waited;
        waited.total_ns += living_ns.saturating_sub(waited.living_ns);
        waited.living_ns = living_ns;
        self.process.wait_us = Some(waited.total_ns / 1000);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    fn table() -> Table {
        Table::new()
    }

    fn identity(pid: u32, started: u64) -> Identity {
        Identity { pid, started_ns: started * 10_000_000 }
    }

    fn walk<'a>(table: &mut Table, identities: impl IntoIterator<Item = &'a (u32, u64)>) {
        table.begin();
        for (pid, started) in identities {
            let row = table.meet(identity(*pid, *started));
            // Distinguish rows by data in both halves.
            row.process.parent = *pid;
            row.mark.shown = (*started, 0);
        }
        table.finish();
    }

    proptest! {
        #[test]
        fn a_table_holds_what_was_met_in_the_last_walk(walks in prop::collection::vec(
            btree_set((0u32..40, 0u64..3), 0..40), 1..6))
        {
            let mut table = table();
            for met in &walks {
                walk(&mut table, met);
                let expected: Vec<Identity> = met.iter().map(|(pid, started)| identity(*pid, *started)).collect();
                let held: Vec<Identity> = table.processes().iter().map(|process| process.identity).collect();
                prop_assert_eq!(&held, &expected);
                for (process, mark) in table.processes.iter().zip(&table.marks) {
                    prop_assert_eq!(process.parent, process.identity.pid);
                    prop_assert_eq!(mark.shown.0 * 10_000_000, process.identity.started_ns);
                }
            }
        }
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let mut table = table();
        walk(&mut table, &[(7, 1), (9, 1)]);
        table.find(identity(7, 1)).unwrap().command = Some("old".into());
        walk(&mut table, &[(7, 2), (9, 1)]);
        assert_eq!(table.processes()[0].command, None);
        assert!(table.find(identity(7, 1)).is_none());
    }

    #[test]
    fn details_are_wanted_once_for_each_exec_and_move() {
        let mut table = table();
        let mut asked = |exec, cgroup| {
            table.begin();
            let mut row = table.meet(identity(1, 1));
            row.ran(exec);
            row.moved(cgroup);
            table.finish();
            let mut wants = Wants::default();
            table.ask(|_, wanted| {
                wants = wanted;
                true
            });
            (wants.command, wants.cgroup)
        };
        assert_eq!(asked(1, 1), (true, true));
        assert_eq!(asked(1, 1), (false, false));
        assert_eq!(asked(2, 1), (true, false));
        assert_eq!(asked(2, 5), (false, true));
    }

    #[test]
    fn gone_processes_are_known_until_the_next_walk() {
        let mut table = table();
        walk(&mut table, &[(7, 1), (8, 1), (9, 1)]);
        walk(&mut table, &[(7, 2), (8, 1)]);
        assert_eq!([7, 8, 9].map(|pid| table.gone_with(pid)), [Some(10_000_000), None, Some(10_000_000)]);
        walk(&mut table, &[(7, 2), (8, 1)]);
        assert_eq!(table.gone_with(9), None);
    }

    #[test]
    fn a_newcomer_is_in_its_parents_group_until_its_own_was_read() {
        let mut table = table();
        walk(&mut table, &[(1, 1), (5, 1)]);
        table.find(identity(1, 1)).unwrap().cgroup = Some("/a".into());
        table.find(identity(5, 1)).unwrap().cgroup = Some("/b".into());
        table.begin();
        for (pid, started, parent) in [(1, 1, 0), (5, 1, 1), (6, 2, 5), (7, 2, 6), (8, 0, 7), (9, 2, 44)] {
            table.meet(identity(pid, started)).process.parent = parent;
        }
        table.finish();
        table.inherit_cgroups();
        let groups: Vec<_> = table.processes().iter().map(|process| process.cgroup.as_deref()).collect();
        let (a, b) = (Some("/a"), Some("/b"));
        assert_eq!(groups, [a, b, b, b, None, None], "a parent is not younger, and may be gone");
    }

    #[test]
    fn io_that_may_be_a_childs_is_left_out_and_read_again() {
        let mut table = table();
        walk(&mut table, &[(1, 1), (2, 1)]);
        for (process, mark) in table.processes.iter_mut().zip(&mut table.marks) {
            (process.read_bytes, process.written_bytes) = (Some(5), Some(7));
            mark.watch.traffic_at = Some(9);
        }
        table.marks[1].watch.reaped = true;
        table.leave_out_inherited_io();
        let io: Vec<_> =
            table.processes().iter().map(|process| (process.read_bytes, process.written_bytes)).collect();
        assert_eq!(io, [(Some(5), Some(7)), (None, None)]);
        let watches: Vec<_> =
            table.marks.iter().map(|mark| (mark.watch.traffic_at, mark.watch.reaped)).collect();
        assert_eq!(watches, [(Some(9), false), (None, false)]);
    }

    #[test]
    fn command_lines_are_read_again_in_turn() {
        let mut table = table();
        let all: Vec<_> = (1..=20).map(|pid| (pid, 1)).collect();
        walk(&mut table, &all);
        for pid in 1..=19 {
            table.find(identity(pid, 1)).unwrap().command = Some("old".into());
        }
        let mut asked = || {
            let mut pids = Vec::new();
            table.ask_in_turn(|process, wants| {
                assert!(wants.command && !wants.cgroup);
                pids.push(process.identity.pid);
                true
            });
            pids
        };
        assert_eq!(asked(), (1..=8).collect::<Vec<_>>());
        assert_eq!(asked(), (9..=16).collect::<Vec<_>>());
        assert_eq!(asked(), [17, 18, 19, 1, 2, 3, 4, 5], "what has none is not asked for one");
    }

    #[test]
    fn refused_requests_are_repeated() {
        let mut table = table();
        walk(&mut table, &[(1, 1), (2, 1)]);
        table.ask(|process, _| process.identity.pid == 1);
        let mut asked = Vec::new();
        table.ask(|process, _| {
            asked.push(process.identity.pid);
            true
        });
        assert_eq!(asked, [2]);
    }

    #[test]
    fn waiting_never_shrinks_when_a_thread_ends() {
        let mut table = table();
        let mut waited = |living_us: u64| {
            table.begin();
            let mut row = table.meet(identity(1, 1));
            row.waited(living_us * 1000);
            let waited = row.process.wait_us;
            table.finish();
            waited
        };
        assert_eq!(waited(50), Some(50));
        assert_eq!(waited(20), Some(50));
        assert_eq!(waited(25), Some(55));
    }
}
