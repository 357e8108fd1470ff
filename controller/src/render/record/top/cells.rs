//! Formats single values for narrow columns.

use jiff::{Timestamp, tz::TimeZone};

use crate::{
    record::time::timestamp,
    render::{record::log::cell::push_started, text::local},
};

/// Maximum width of a size, in cells.
pub(super) const SIZE: usize = 5;

/// KiB in at most five cells: `812K`, `9.7M`, `613M`, `1.5G`.
pub(super) fn kib(kib: u64) -> String {
    scaled(kib as f64, &["K", "M", "G", "T", "P"])
}

/// Bytes per second in at most five cells: `0`, `512B`, `12K`.
pub(super) fn rate(bytes: f64) -> String {
    if bytes < 0.5 { "0".into() } else { scaled(bytes, &["B", "K", "M", "G", "T"]) }
}

fn scaled(mut value: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // A value that would round to four digits moves to the next unit.
    while value >= 999.5 && unit + 1 < units.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let digits = usize::from(unit > 0 && value < 9.95);
    format!("{value:.digits$}{}", units[unit])
}

/// A percentage in at most five cells.
pub(super) fn percent(value: f64) -> String {
    let digits = usize::from(value < 999.95);
    format!("{value:.digits$}")
}

/// `-` for an unknown value.
pub(super) fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".into())
}

/// `00:12:22`
pub(super) fn clock(unix_ms: i64, zone: &TimeZone) -> String {
    timestamp(unix_ms).to_zoned(zone.clone()).strftime("%H:%M:%S").to_string()
}

/// `2011-07-13 00:12:22`
pub(super) fn date(unix_ms: i64, zone: &TimeZone) -> String {
    local(timestamp(unix_ms), zone)
}

/// Start time as in `ps`: `09:30` on the same day, `Jul12` in the same year, else `2010`.
pub(super) fn start(started: Timestamp, now_ms: i64, zone: &TimeZone) -> String {
    let mut cell = String::new();
    push_started(&mut cell, started, &timestamp(now_ms).to_zoned(zone.clone()));
    cell
}

/// A bar of `width` cells. Each part is a share in percent and its character; the rest is blank.
pub(super) fn bar(parts: &[(f64, char)], width: usize) -> Vec<(usize, char)> {
    let (mut sum, mut filled) = (0.0, 0);
    let mut cells = Vec::new();
    for (share, symbol) in parts {
        // Rounding the running sum keeps rounding errors from adding up.
        sum += share.clamp(0.0, 100.0);
        let end = ((sum / 100.0 * width as f64).round() as usize).clamp(filled, width);
        cells.push((end - filled, *symbol));
        filled = end;
    }
    cells.push((width - filled, ' '));
    cells
}

/// One cell of a graph, for a share in percent; blank if unknown.
pub(super) fn level(percent: Option<f64>) -> char {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let index = |percent: f64| ((percent / 12.5).floor().clamp(0.0, 7.0)) as usize;
    percent.map_or(' ', |percent| LEVELS[index(percent)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_fit_their_cells() {
        for (value, expected) in [
            (0, "0K"),
            (999, "999K"),
            (1_000, "1.0M"),
            (1_024, "1.0M"),
            (10_137, "9.9M"),
            (10_200, "10M"),
            (627_712, "613M"),
            (1_023_000, "999M"),
            (1_048_576, "1.0G"),
            (u64::MAX, "16777216P"),
        ] {
            assert_eq!(kib(value), expected);
        }
        assert_eq!([0.0, 0.7, 999.0, 1000.0, 12.0 * 1024.0].map(rate), ["0", "1B", "999B", "1.0K", "12K"]);
        assert_eq!([0.0, 99.95, 250.0, 3_200.0].map(percent), ["0.0", "100.0", "250.0", "3200"]);
    }

    #[test]
    fn a_bar_has_its_width_whatever_the_shares() {
        assert_eq!(bar(&[(50.0, 'u'), (25.0, 's')], 20), [(10, 'u'), (5, 's'), (5, ' ')]);
        for parts in [[(33.3, 'a'), (33.3, 'b')], [(200.0, 'a'), (1.0, 'b')], [(-5.0, 'a'), (f64::NAN, 'b')]]
        {
            assert_eq!(bar(&parts, 7).iter().map(|(cells, _)| cells).sum::<usize>(), 7, "{parts:?}");
        }
    }

    #[test]
    fn a_level_has_eight_steps() {
        let shown: String =
            [None, Some(0.0), Some(12.5), Some(99.9), Some(400.0)].map(level).into_iter().collect();
        assert_eq!(shown, " ▁▂██");
    }
}
