//! Selects important lines of the kernel log, and joins related lines: all lines of one out-of-memory kill become one
//! event, including the table of tasks.

use record::{
    Event, EventKind,
    oom::{Columns, INVOKED, KILLED, left_out},
};

/// Maximum length of an event's text, in bytes.
const MAX_TEXT: usize = 64 << 10;
/// Part of it that is reserved for the last lines, which name the victim.
const RESERVED: usize = 4 << 10;
/// From this length on, only rows of notable processes are kept.
const CROWDED: usize = 32 << 10;
/// Minimum size of a notable process: resident and swapped out, in pages.
const NOTABLE_PAGES: u64 = 256;
/// Maximum number of events in one drain; further ones are only counted.
const MAX_EVENTS: u64 = 64;
/// After this time without further lines, an incomplete kill becomes an event as it is.
const PATIENCE_NS: u64 = 5_000_000_000;

/// Texts that make a single line important.
const MATTERS: [&str; 17] = [
    "blocked for more than",
    "Out of memory",
    "out of memory",
    "oom_reaper: ",
    "page allocation failure",
    "segfault at ",
    "general protection fault",
    "I/O error",
    "Remounting filesystem read-only",
    "EXT4-fs error",
    "Corruption ",
    "soft lockup",
    "hard LOCKUP",
    "detected stall",
    "Kernel panic",
    "Oops: ",
    "[Hardware Error]",
];

/// Turns lines into events.
#[derive(Debug)]
pub(super) struct Collector {
    kill: Option<Kill>,
    text: String,
    events: u64,
    left_out: u64,
}

/// A kill whose lines are still arriving.
#[derive(Debug)]
struct Kill {
    at_ns: u64,
    last_ns: u64,
    /// Whether the victim has been named.
    named: bool,
    columns: Option<Columns>,
    left_out: u64,
}

impl Collector {
    pub(super) fn new() -> Self {
        Self { kill: None, text: String::with_capacity(MAX_TEXT), events: 0, left_out: 0 }
    }

    /// Adds the next line from the kernel.
    pub(super) fn note(&mut self, line: &str, at_ns: u64, out: &mut Vec<Event>) {
        if line.contains(INVOKED) {
            self.end_kill(out);
        }
        if self.kill.is_none() && begins_kill(line) {
            self.kill = Some(Kill { at_ns, last_ns: at_ns, named: false, columns: None, left_out: 0 });
        }
        match &mut self.kill {
            Some(kill) if !kill.named || follows_victim(line) => kill.take(line, at_ns, &mut self.text),
            _ if MATTERS.iter().any(|what| line.contains(what)) => self.push(at_ns, line, out),
            _ => {}
        }
    }

    /// Called when there are no more lines for now.
    pub(super) fn pause(&mut self, now_ns: u64, out: &mut Vec<Event>) {
        let is_over = |kill: &Kill| kill.named || now_ns.saturating_sub(kill.last_ns) >= PATIENCE_NS;
        if self.kill.as_ref().is_some_and(is_over) {
            self.end_kill(out);
        }
        if self.left_out > 0 {
            let text = format!("dropped {} more events of the kernel log: too many at once", self.left_out);
            out.push(Event { at_ns: now_ns, kind: EventKind::Note, text: text.into() });
        }
        (self.events, self.left_out) = (0, 0);
    }

    fn end_kill(&mut self, out: &mut Vec<Event>) {
        let Some(kill) = self.kill.take() else { return };
        if kill.left_out > 0 {
            self.text.push_str(&left_out(kill.left_out));
        }
        let text = std::mem::take(&mut self.text);
        self.push(kill.at_ns, text.trim_end(), out);
        self.text = text;
        self.text.clear();
    }

    fn push(&mut self, at_ns: u64, text: &str, out: &mut Vec<Event>) {
        self.events += 1;
        if self.events > MAX_EVENTS {
            self.left_out += 1;
            return;
        }
        out.push(Event { at_ns, kind: EventKind::Kernel, text: text.into() });
    }
}

impl Kill {
    fn take(&mut self, line: &str, at_ns: u64, text: &mut String) {
        self.last_ns = at_ns;
        self.named |= line.contains(KILLED);
        let row = self.columns.as_ref().and_then(|columns| columns.row(line));
        let is_small = row.as_ref().is_some_and(|row| row.pages() < NOTABLE_PAGES);
        if row.is_none() && line.starts_with('[') {
            self.columns = Columns::parse(line).or_else(|| self.columns.take());
        }
        let limit = match () {
            () if is_small => CROWDED,
            () if begins_kill(line) || follows_victim(line) => MAX_TEXT - 128,
            () => MAX_TEXT - RESERVED,
        };
        if text.len() + line.len() < limit {
            text.push_str(line);
            text.push('\n');
        } else {
            self.left_out += 1;
        }
    }
}

/// The header may be missing: the kernel prints it at most ten times in five seconds.
fn begins_kill(line: &str) -> bool {
    line.contains(INVOKED)
        || line.contains(KILLED)
        || line.starts_with("oom-kill:")
        || line.contains(": Kill process ")
        || line.contains(": kill process ")
}

/// Whether a line belongs to a kill whose victim is already named.
fn follows_victim(line: &str) -> bool {
    line.contains(KILLED)
        || line.starts_with("oom_reaper: ")
        || line.starts_with("OOM victim ")
        || line.starts_with("Tasks in ")
}

#[cfg(test)]
mod tests {
    use record::oom::OomKill;

    use super::*;

    const HEADER: &str = "x invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0";
    const TABLE: &str = "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name";
    const VICTIM: &str = "Out of memory: Killed process 9 (y) total-vm:400kB, anon-rss:40kB, file-rss:0kB, \
                          shmem-rss:0kB, UID:0 pgtables:4kB oom_score_adj:0";

    fn events(lines: &[&str]) -> Vec<Event> {
        let (mut collector, mut out) = (Collector::new(), Vec::new());
        for (at, line) in lines.iter().enumerate() {
            collector.note(line, at as u64, &mut out);
        }
        collector.pause(lines.len() as u64, &mut out);
        out
    }

    #[test]
    fn one_kill_is_one_event_and_other_lines_that_matter_are_their_own() {
        let reaped = "oom_reaper: reaped process 9 (y), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB";
        let fault = "apache2[7]: segfault at 0 ip 0 sp 0 error 4";
        let row = "[      9]     0     9      100       10     4096        0             0 y";
        let lines = [
            "usb 1-1: new",
            HEADER,
            "Mem-Info:",
            TABLE,
            row,
            VICTIM,
            "eth0: up",
            fault,
            reaped,
            HEADER,
            VICTIM,
        ];
        let events = events(&lines);
        let told: Vec<_> = events.iter().map(|event| (event.at_ns, event.text.lines().count())).collect();
        assert_eq!(told, [(7, 1), (1, 6), (9, 2)]);
        assert_eq!(&*events[1].text, [HEADER, "Mem-Info:", TABLE, row, VICTIM, reaped].join("\n"));
        assert_eq!(OomKill::parse(&events[2].text).unwrap().victims[0].pid, 9);
    }

    #[test]
    fn a_kill_is_an_event_once_the_victim_is_named_or_after_some_time() {
        let (mut collector, mut out) = (Collector::new(), Vec::new());
        collector.note(HEADER, 100, &mut out);
        collector.pause(200, &mut out);
        assert!(out.is_empty());
        collector.note(VICTIM, 300, &mut out);
        collector.pause(300, &mut out);
        assert_eq!(out.len(), 1);
        collector.note(HEADER, 400, &mut out);
        collector.pause(400 + PATIENCE_NS, &mut out);
        assert_eq!(&*out[1].text, HEADER);
    }

    #[test]
    fn a_long_table_keeps_the_large_and_always_the_victim() {
        let row = |pid: u32, pages: u32| {
            format!("[{pid:7}]     0 {pid:5}  1000000 {pages:8}     4096        0             0 apache2")
        };
        let small: Vec<_> = (1000..2500).map(|pid| row(pid, 100)).collect();
        let large: Vec<_> = (3000..3900).map(|pid| row(pid, 9000 + pid)).collect();
        let mut lines = vec![HEADER, TABLE];
        lines.extend(small.iter().chain(&large).map(String::as_str));
        lines.push(VICTIM);
        let events = events(&lines);
        assert_eq!(events.len(), 1);
        assert!(events[0].text.len() <= MAX_TEXT);
        let kill = OomKill::parse(&events[0].text).unwrap();
        assert_eq!((kill.victims[0].pid, kill.table.len() as u64 + kill.left_out), (9, 2400));
        assert!(kill.table.iter().filter(|row| row.rss_kib > 400).count() > 200);
    }

    #[test]
    fn a_flood_is_counted() {
        let lines = vec!["blk_update_request: I/O error, dev sda, sector 7"; 1000];
        let events = events(&lines);
        assert_eq!(events.len() as u64, MAX_EVENTS + 1);
        assert_eq!(
            (events[64].kind, events[64].text.starts_with("dropped 936 more")),
            (EventKind::Note, true)
        );
    }
}
