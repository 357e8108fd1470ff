//! Formats single values for people: durations, sizes, states, source locations.

use jiff::{Timestamp, Zoned, tz::TimeZone};
use proto::{
    pb::{ResourceStatus, RunState},
    run::state_name,
};

use super::Colour;
pub(crate) use super::printable::{printable, push_printable};

/// A duration in ms: `850 ms`, `2.1 s`, `3 min 10 s`, `2 h 5 min`.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{}.{} s", seconds, ms % 1_000 / 100),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// An age in ms, in one unit: `47 s`, `3 min`, `2 h`, `5 d`.
pub(super) fn age(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Date and time in a time zone: `2011-07-13 00:12:22`.
pub(super) fn local(at: Timestamp, zone: &TimeZone) -> String {
    let mut text = String::new();
    push_date_and_time(&mut text, &at.to_zoned(zone.clone()));
    text
}

/// Appends `%Y-%m-%d %H:%M:%S`, digit by digit: logs have very many lines.
pub(super) fn push_date_and_time(line: &mut String, at: &Zoned) {
    let (date, time) = (at.date(), at.time());
    push(line, format_args!("{:04}", date.year()));
    let day = [('-', date.month()), ('-', date.day())];
    let second = [(' ', time.hour()), (':', time.minute()), (':', time.second())];
    for (separator, number) in day.into_iter().chain(second) {
        let number = number.unsigned_abs();
        line.extend([separator, digit(number / 10), digit(number % 10)]);
    }
}

fn digit(number: u8) -> char {
    char::from(b'0' + number)
}

/// Remaining seconds, rounded to two units, so that a week still reads `7 d` a minute later: `7 d`, `6 d 23 h`,
/// `1 h 59 min`, `47 s`.
pub(super) fn left(seconds: u64) -> String {
    let nearest = |unit: u64| (seconds + unit / 2) / unit * unit;
    let seconds = match seconds {
        0..60 => seconds,
        60..86_400 => nearest(60),
        _ => nearest(3_600),
    };
    let (days, hours, minutes) = (seconds / 86_400, seconds % 86_400 / 3_600, seconds % 3_600 / 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Shortens Puppet's `{sha256}` digests from 64 digits to eight.
pub(super) fn short_digests(message: &str) -> String {
    const MARK: &str = "{sha256}";
    let mut parts = message.split(MARK);
    let mut short = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        short.push_str(MARK);
        match digits {
            64 => short.extend([&part[..8], "…", &part[64..]]),
            _ => short.push_str(part),
        }
    }
    short
}

/// `512 B`, `38 MiB`, `1.5 GiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..UNITS.len()).rev().find(|&unit| bytes >= 1 << (10 * unit)).unwrap_or_default();
    let value = bytes as f64 / (1_u64 << (10 * unit)) as f64;
    let digits = usize::from(unit > 0 && value < 10.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// Appends formatted text without allocating a new string.
pub(super) fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    let _ = std::fmt::Write::write_fmt(out, arguments);
}

/// A source location, escaped: `modules/a.pp:3`; empty if unknown.
pub(super) fn place(file: &str, line: u32) -> String {
    match (printable(file), line) {
        (file, _) if file.is_empty() => file,
        (file, 0) => file,
        (file, line) => format!("{file}:{line}"),
    }
}

/// Name of a run state, for people and JSON, and its colour.
pub(super) fn state(state: RunState) -> (&'static str, Colour) {
    let colour = match state {
        RunState::Succeeded => Colour::Green,
        RunState::Changed => Colour::Yellow,
        RunState::Failed | RunState::Cancelled | RunState::Interrupted => Colour::Red,
        RunState::Unspecified | RunState::Queued | RunState::Preparing | RunState::Running => Colour::None,
    };
    (state_name(state), colour)
}

/// Name of a resource status, for people and JSON, and its colour.
pub(super) fn status(status: ResourceStatus) -> (&'static str, Colour) {
    match status {
        ResourceStatus::Unspecified => ("unknown", Colour::None),
        ResourceStatus::Changed => ("changed", Colour::Yellow),
        ResourceStatus::Failed => ("failed", Colour::Red),
        ResourceStatus::Skipped => ("skipped", Colour::Cyan),
        ResourceStatus::Pending => ("pending", Colour::Cyan),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short_and_keep_their_meaning() {
        let durations = [0, 999, 1_000, 2_190, 59_999, 60_000, 190_000, 7_500_000, 90_000_000].map(duration);
        assert_eq!(
            durations,
            ["0 ms", "999 ms", "1.0 s", "2.1 s", "59.9 s", "1 min 0 s", "3 min 10 s", "2 h 5 min", "1 d 1 h"]
        );
        let ages = [0, 47_900, 60_000, 7_200_000, 100_000_000, 200_000_000].map(age);
        assert_eq!(ages, ["0 s", "47 s", "1 min", "2 h", "27 h", "2 d"]);
        let lefts = [59, 60, 3_569, 3_599, 7_169, 86_399, 86_400, 601_200, 604_740, 604_800].map(left);
        let expected =
            ["59 s", "1 min", "59 min", "1 h", "1 h 59 min", "1 d", "1 d", "6 d 23 h", "7 d", "7 d"];
        assert_eq!(lefts, expected);
        let sizes = [0, 1_023, 1_024, 38 << 20, 3 << 29].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "38 MiB", "1.5 GiB"]);
        assert_eq!([place("", 3), place("a.pp", 0), place("a.pp", 3)], ["", "a.pp", "a.pp:3"]);
    }

    #[test]
    fn digests_are_cut_short_and_nothing_else_is() {
        let digest = "0123456789abcdef".repeat(4);
        let message = format!("content changed '{{sha256}}{digest}' to '{{sha256}}{digest}'");
        assert_eq!(short_digests(&message), "content changed '{sha256}01234567…' to '{sha256}01234567…'");
        for other in ["", "{sha256}", "{sha256}0123 ünd", "{md5}0123"] {
            assert_eq!(short_digests(other), other);
        }
    }
}
