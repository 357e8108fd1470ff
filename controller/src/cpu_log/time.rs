//! Points in time as people type them.

use jiff::{
    Span, Timestamp, Zoned,
    civil::{DateTime, Time},
};

use crate::error::{Error, Result};

/// Reads `5m`, `3m ago`, `1h30m`, `now`, `00:12`, `2011-07-13`, `2011-07-13 00:12[:22]` or RFC 3339.
///
/// Spans count back from `now`; what names no zone is in the zone of `now`; a time of day is the latest such time that
/// is not in the future.
pub fn parse_time(text: &str, now: &Zoned) -> Result<Timestamp> {
    let text = text.trim();
    let zone = now.time_zone();
    let found = if text == "now" {
        Some(now.timestamp())
    } else if let Ok(timestamp) = text.parse::<Timestamp>() {
        Some(timestamp)
    } else if let Ok(time) = text.parse::<Time>() {
        latest(time, now)
    } else if let Ok(local) = text.parse::<DateTime>() {
        // A date alone is its midnight.
        local.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp())
    } else {
        text.parse::<Span>().ok().and_then(|span| Some(now.checked_sub(span.abs()).ok()?.timestamp()))
    };
    found.ok_or_else(|| {
        Error::invalid(format!("'{text}' is not a point in time"))
            .hint("write 5m (five minutes ago), 00:12, '2011-07-13 00:12' or 2011-07-13T00:12:22Z")
    })
}

fn latest(time: Time, now: &Zoned) -> Option<Timestamp> {
    let today = now.with().time(time).build().ok()?;
    let chosen = if today > *now { today.yesterday().ok()? } else { today };
    Some(chosen.timestamp())
}

#[cfg(test)]
mod tests {
    use jiff::tz::{self, TimeZone};
    use proptest::prelude::*;

    use super::*;

    /// 2011-07-13 00:20:00, two hours east of Greenwich.
    fn now() -> Zoned {
        let zone = TimeZone::fixed(tz::offset(2));
        "2011-07-12T22:20:00Z".parse::<Timestamp>().unwrap().to_zoned(zone)
    }

    #[test]
    fn people_write_time_in_many_ways() {
        for (text, expected) in [
            ("now", "2011-07-12T22:20:00Z"),
            ("5m", "2011-07-12T22:15:00Z"),
            ("3m ago", "2011-07-12T22:17:00Z"),
            ("1h30m", "2011-07-12T20:50:00Z"),
            ("2d", "2011-07-10T22:20:00Z"),
            ("00:12", "2011-07-12T22:12:00Z"),
            ("23:59:30", "2011-07-12T21:59:30Z"),
            ("2011-07-13", "2011-07-12T22:00:00Z"),
            ("2011-07-13 00:12", "2011-07-12T22:12:00Z"),
            ("2011-07-13 00:12:22", "2011-07-12T22:12:22Z"),
            ("2011-07-13T00:12:22+00:00", "2011-07-13T00:12:22Z"),
            ("2011-07-13T00:12:22Z", "2011-07-13T00:12:22Z"),
        ] {
            assert_eq!(parse_time(text, &now()).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_a_hint() {
        for text in ["", "yesterday evening", "25:00", "2011-13-01", "5 parsecs"] {
            let error = parse_time(text, &now()).unwrap_err();
            assert_eq!(error.kind().exit_code(), 2, "{text}");
            assert_eq!(error.hints().len(), 1);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,24}|[0-9]{0,22}[smhdwy]") {
            let _ = parse_time(&text, &now());
        }
    }
}
