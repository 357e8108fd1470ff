//! Formats single values for people: durations, sizes, states, source locations.

use jiff::{Timestamp, Zoned, tz::TimeZone};
use proto::{
    pb::{ResourceStatus, RunState},
    run::state_name,
};

use super::Colour;
pub(crate) use super::printable::{printable, push_printable};
pub(super) use proto::units::{counted, kib_size, size};

/// An amount in KiB, the record's unit, in bytes, the unit of JSON.
pub(super) fn bytes(kib: u64) -> u64 {
    kib.saturating_mul(1_024)
}

/// A duration in ms, rounded to what is shown: `850 ms`, `2.1 s`, `3 min 10 s`, `2 h 5 min`.
pub(super) fn duration(ms: u64) -> String {
    let nearest = |unit_ms: u64| ms.saturating_add(unit_ms / 2) / unit_ms;
    // What rounds up to the next unit is shown in it: 59.96 s is `1 min 0 s`.
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..59_950 => format!("{}.{} s", nearest(100) / 10, nearest(100) % 10),
        59_950..3_599_500 => format!("{} min {} s", nearest(1_000) / 60, nearest(1_000) % 60),
        3_599_500..86_370_000 => format!("{} h {} min", nearest(60_000) / 60, nearest(60_000) % 60),
        _ => format!("{} d {} h", nearest(3_600_000) / 24, nearest(3_600_000) % 24),
    }
}

/// The time between two moments, as a [`duration`].
pub(super) fn passed(from: Timestamp, until: Timestamp) -> String {
    duration(u64::try_from(until.as_millisecond() - from.as_millisecond()).unwrap_or(0))
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
        let durations = [0, 999, 1_000, 2_190, 60_000, 190_000, 7_500_000, 90_000_000].map(duration);
        let expected =
            ["0 ms", "999 ms", "1.0 s", "2.2 s", "1 min 0 s", "3 min 10 s", "2 h 5 min", "1 d 1 h"];
        assert_eq!(durations, expected);
        let ages = [0, 47_900, 60_000, 7_200_000, 100_000_000, 200_000_000].map(age);
        assert_eq!(ages, ["0 s", "47 s", "1 min", "2 h", "27 h", "2 d"]);
        let lefts = [59, 60, 3_569, 3_599, 7_169, 86_399, 86_400, 601_200, 604_740, 604_800].map(left);
        let expected =
            ["59 s", "1 min", "59 min", "1 h", "1 h 59 min", "1 d", "1 d", "6 d 23 h", "7 d", "7 d"];
        assert_eq!(lefts, expected);
        assert_eq!([place("", 3), place("a.pp", 0), place("a.pp", 3)], ["", "a.pp", "a.pp:3"]);
    }

    #[test]
    fn durations_are_rounded_and_carried_into_the_next_unit() {
        for (ms, expected) in [
            (1_049, "1.0 s"),
            (1_050, "1.1 s"),
            (3_887, "3.9 s"),
            (59_949, "59.9 s"),
            (59_950, "1 min 0 s"),
            (66_995, "1 min 7 s"),
            (119_499, "1 min 59 s"),
            (119_500, "2 min 0 s"),
            (3_599_499, "59 min 59 s"),
            (3_599_500, "1 h 0 min"),
            (5_399_999, "1 h 30 min"),
            (86_369_999, "23 h 59 min"),
            (86_370_000, "1 d 0 h"),
            (170_999_999, "1 d 23 h"),
            (171_000_000, "2 d 0 h"),
        ] {
            assert_eq!(duration(ms), expected, "{ms} ms");
        }
        assert_eq!(duration(u64::MAX), "213503982334 d 14 h");
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
