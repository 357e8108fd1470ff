//! Log lines other than processes: breaks, process exits, kernel and recorder messages, runs. In text output they
//! start with `#`.

use jiff::{Timestamp, tz::TimeZone};
use record::{Exit, ExitGroup, oom::OomKill};

use super::cell::minutes;
use crate::{
    record::{
        breaks::{Break, Why},
        exits::Ending,
        log::Entry,
        marks::RunMark,
    },
    render::text::{duration, local, passed, printable, size},
};

/// The sentence for any entry other than a process.
pub(super) fn sentence(entry: &Entry, zone: &TimeZone) -> String {
    let at = |at: &Timestamp| local(*at, zone);
    match entry {
        Entry::Process(_) => String::new(),
        Entry::Break(broken) => break_sentence(broken, zone),
        Entry::Exit(time, exit) => format!("{} {}", at(time), exit_sentence(exit)),
        Entry::ExitGroup(time, group) => format!("{} {}", at(time), group_sentence(group)),
        Entry::MoreExits(time, 1) => format!("{} 1 more process exited", at(time)),
        Entry::MoreExits(time, count) => format!("{} {count} more processes exited", at(time)),
        Entry::Kernel(time, text) => format!("{} {}", at(time), kernel_sentence(text)),
        Entry::Kills { at: time, earliest, count } => {
            format!("{} out-of-memory kills in the {} before: {count}", at(time), passed(*earliest, *time))
        }
        Entry::Note(time, text) => format!("{} recorder: {}", at(time), printable(text)),
        Entry::Run(mark) => run_sentence(mark, zone),
    }
}

/// Why samples are missing.
pub(in crate::render) fn break_sentence(broken: &Break, zone: &TimeZone) -> String {
    let between = |from: &Timestamp, until: &Timestamp| {
        format!("between {} and {}", local(*from, zone), local(*until, zone))
    };
    match broken {
        Break::Gap { from, until, length_ms, why } => {
            let why = why.map(|why| format!(": {}", why_sentence(why))).unwrap_or_default();
            format!("no samples {} ({}){why}", between(from, until), duration(*length_ms))
        }
        Break::Restart { from, until } => format!("the host restarted {}", between(from, until)),
        Break::Step { from, until, by_ms } => {
            let direction = if *by_ms < 0 { "back" } else { "forward" };
            let by = duration(by_ms.unsigned_abs());
            format!("the clock was set {direction} by {by} {}", between(from, until))
        }
        Break::Lost(sentence) => printable(sentence),
    }
}

fn why_sentence(why: Why) -> String {
    match why {
        Why::Recorder => "the recorder restarted".to_owned(),
        Why::Dropped(count) => format!("dropped samples: {count}"),
        Why::Late(late_ms) => format!("the recorder was scheduled {} late", duration(late_ms)),
    }
}

fn exit_sentence(exit: &Exit) -> String {
    let cpu_us = exit.user_us.saturating_add(exit.system_us);
    format!(
        "exit {} {}: {}, lived {}, CPU {}, peak {}",
        exit.identity.pid,
        printable(&exit.comm),
        ending(exit.status),
        duration(exit.lived_us / 1_000),
        minutes(cpu_us),
        size(exit.peak_kib.saturating_mul(1024)),
    )
}

/// Exit code or signal, in words.
pub(in crate::render) fn ending(status: u32) -> String {
    match Ending::of(status) {
        Ending::Code(code) => format!("exit code {code}"),
        signal => format!("killed by {}", signal.signal_name().unwrap_or_default()),
    }
}

pub(in crate::render) fn group_sentence(group: &ExitGroup) -> String {
    format!(
        "exit {} × {} of parent {}: {} failed, CPU {} in total, peak {}",
        group.count,
        printable(&group.comm),
        group.parent,
        group.failed,
        minutes(group.cpu_us),
        size(group.peak_kib.saturating_mul(1024)),
    )
}

fn run_sentence(mark: &RunMark, zone: &TimeZone) -> String {
    let what = format!("{} run {} {}", local(mark.at, zone), printable(&mark.run_id), printable(&mark.what));
    match &mark.state {
        None => format!("{what} by {} started", printable(&mark.user)),
        Some(state) => format!("{what} ended: {}", printable(state)),
    }
}

/// An out-of-memory kill in short; the first line of any other message.
fn kernel_sentence(text: &str) -> String {
    let Some(kill) = OomKill::parse(text).filter(|kill| !kill.victims.is_empty()) else {
        return format!("kernel: {}", first_line(text));
    };
    let victims: Vec<_> =
        kill.victims.iter().map(|victim| format!("pid {} {}", victim.pid, printable(&victim.comm))).collect();
    let trigger = kill.trigger.map(|trigger| format!(", triggered by {}", printable(&trigger.comm)));
    format!("out-of-memory kill: {}{}", victims.join(", "), trigger.unwrap_or_default())
}

fn first_line(text: &str) -> String {
    let mut lines = text.lines();
    let first = printable(lines.next().unwrap_or_default());
    match lines.count() {
        0 => first,
        more => format!("{first} (more lines: {more})"),
    }
}
