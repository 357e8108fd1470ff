//! How single values are put into words: durations, sizes, states, places.

use proto::pb::{ResourceStatus, RunState};

use super::Colour;

/// `850 ms`, `2.1 s`, `3 min 10 s`, `2 h 5 min`.
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

/// `512 B`, `38 MiB`, `1.5 GiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..UNITS.len()).rev().find(|&unit| bytes >= 1 << (10 * unit)).unwrap_or_default();
    let value = bytes as f64 / (1_u64 << (10 * unit)) as f64;
    let digits = usize::from(unit > 0 && value < 10.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `modules/a.pp:3`, or nothing.
pub(super) fn place(file: &str, line: u32) -> String {
    match (file.is_empty(), line) {
        (true, _) => String::new(),
        (false, 0) => file.to_owned(),
        (false, line) => format!("{file}:{line}"),
    }
}

/// A state's name, as users and programs read it.
pub(super) fn state(state: RunState) -> (&'static str, Colour) {
    match state {
        RunState::Unspecified => ("unknown", Colour::None),
        RunState::Queued => ("queued", Colour::None),
        RunState::Preparing => ("preparing", Colour::None),
        RunState::Running => ("running", Colour::None),
        RunState::Succeeded => ("succeeded", Colour::Green),
        RunState::Changed => ("changed", Colour::Yellow),
        RunState::Failed => ("failed", Colour::Red),
        RunState::Cancelled => ("cancelled", Colour::Red),
        RunState::Interrupted => ("interrupted", Colour::Red),
    }
}

/// A resource's status, as users and programs read it.
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
        let sizes = [0, 1_023, 1_024, 38 << 20, 3 << 29].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "38 MiB", "1.5 GiB"]);
        assert_eq!([place("", 3), place("a.pp", 0), place("a.pp", 3)], ["", "a.pp", "a.pp:3"]);
    }
}
