//! Formats single values of a process for people. Frequent cells are appended to a buffer instead of allocated.

use crate::render::text::{push, push_printable};
use std::fmt::Display;

use jiff::{Timestamp, Zoned};
use record::Process;

/// Placeholder for an unknown value.
const UNKNOWN: &str = "-";

/// Appends a word.
pub(super) fn push_word(cell: &mut String, word: Option<&str>) {
    push_printable(cell, word.unwrap_or(UNKNOWN));
}

/// Appends a number.
pub(super) fn push_known(cell: &mut String, number: Option<impl Display>) {
    match number {
        Some(number) => push(cell, format_args!("{number}")),
        None => cell.push_str(UNKNOWN),
    }
}

/// Appends a number with one decimal place.
pub(super) fn push_tenths(cell: &mut String, number: Option<f64>) {
    match number {
        Some(number) => push(cell, format_args!("{number:.1}")),
        None => cell.push_str(UNKNOWN),
    }
}

/// The kernel's state letter (proc_pid_stat(5)).
pub(super) fn state(process: &Process) -> char {
    char::from(process.state)
}

/// Month names, as `%b` prints them.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Start time as in ps: the time on the same day, the day in the same year, else the year.
pub(in crate::render) fn push_started(cell: &mut String, started: Timestamp, at: &Zoned) {
    let started = started.to_zoned(at.time_zone().clone());
    if started.date() == at.date() {
        push(cell, format_args!("{:02}:{:02}", started.hour(), started.minute()));
    } else if started.year() == at.year() {
        let month = MONTHS[started.month().unsigned_abs() as usize - 1];
        push(cell, format_args!("{month}{:02}", started.day()));
    } else {
        push(cell, format_args!("{:04}", started.year()));
    }
}

/// CPU time in µs, as in ps: minutes and seconds.
pub(super) fn push_minutes(cell: &mut String, us: u64) {
    let seconds = us / 1_000_000;
    push(cell, format_args!("{}:{:02}", seconds / 60, seconds % 60));
}

/// [`push_minutes`] as a string.
pub(in crate::render) fn minutes(us: u64) -> String {
    let mut text = String::new();
    push_minutes(&mut text, us);
    text
}

/// Appends the command line, or the name in brackets if there is none.
pub(super) fn push_command(cell: &mut String, command: Option<&str>, comm: &str) {
    match command {
        Some(command) => push_printable(cell, command),
        None => {
            cell.push('[');
            push_printable(cell, comm);
            cell.push(']');
        }
    }
}

/// [`push_command`] as a string.
pub(in crate::render) fn command(command: Option<&str>, comm: &str) -> String {
    let mut text = String::new();
    push_command(&mut text, command, comm);
    text
}
