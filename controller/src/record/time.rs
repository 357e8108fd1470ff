//! Times: as users type them, and as a record stores them.

use jiff::{
    Span, Timestamp, Zoned,
    civil::{DateTime, Time},
    tz::{Disambiguation, TimeZone},
};

use record::{Identity, Sample};

use crate::error::{Error, Result};

/// Which end of a window a time is. When summer time ends, the repeated hour is inside the window at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Start of the window.
    Begin,
    /// End of the window.
    End,
}

impl Edge {
    fn choice(self) -> Disambiguation {
        match self {
            Self::Begin => Disambiguation::Earlier,
            Self::End => Disambiguation::Later,
        }
    }
}

/// Parses `5m`, `3m ago`, `1h30m`, `now`, `00:12`, `2011-07-13`, `2011-07-13 00:12[:22]` or RFC 3339.
///
/// Spans count back from `now`. A time without a zone is in the zone of `now`. A time of day is the latest such time
/// that is not in the future; at the end of a window it is today's, even if that is still to come.
pub fn parse_time(text: &str, now: &Zoned, edge: Edge) -> Result<Timestamp> {
    let text = text.trim();
    let zone = now.time_zone();
    let found = if text == "now" {
        Some(now.timestamp())
    } else if let Ok(timestamp) = text.parse::<Timestamp>() {
        Some(timestamp)
    } else if let Ok(local) = text.parse::<DateTime>() {
        // A date alone means midnight.
        local_time(local, zone, edge.choice())
    } else if let Some(time) = time_of_day(text) {
        match edge {
            Edge::Begin => latest(time, now, edge),
            Edge::End => today(time, now),
        }
    } else if text.starts_with('+') {
        // A plus sign usually means the future.
        None
    } else {
        text.parse::<Span>().ok().and_then(|span| Some(now.checked_sub(span.abs()).ok()?.timestamp()))
    };
    found.ok_or_else(|| {
        Error::invalid(format!("'{text}' is not a valid time"))
            .hint("write 5m (five minutes ago), 00:12, '2011-07-13 00:12' or 2011-07-13T00:12:22Z")
    })
}

/// Parses the end of a window that begins at `from`, typed as `since`. If both are times of day, the end is the first
/// such time after the beginning: after midnight, `22:00` and `23:00` are both yesterday's.
pub(crate) fn parse_end(text: &str, since: &str, from: Option<Timestamp>, now: &Zoned) -> Result<Timestamp> {
    let time = time_of_day(since.trim()).and_then(|_| time_of_day(text.trim()));
    let past = time.and_then(|time| latest(time, now, Edge::End));
    match past.filter(|past| from.is_some_and(|from| *past > from)) {
        Some(past) => Ok(past),
        None => parse_time(text, now, Edge::End),
    }
}

/// Parses a time of day without a date: the parser accepts one, and ignores it.
fn time_of_day(text: &str) -> Option<Time> {
    text.parse::<DateTime>().is_err().then(|| text.parse().ok()).flatten()
}

/// The end of a window at this time of day: today's, even if nothing is recorded of it yet.
fn today(time: Time, now: &Zoned) -> Option<Timestamp> {
    let is_today = |past: &Timestamp| past.to_zoned(now.time_zone().clone()).date() == now.date();
    let to_come = || local_time(now.date().to_datetime(time), now.time_zone(), Edge::End.choice());
    latest(time, now, Edge::End).filter(is_today).or_else(to_come)
}

fn latest(time: Time, now: &Zoned, edge: Edge) -> Option<Timestamp> {
    let today = now.date();
    let days = [Some(today), today.yesterday().ok()].into_iter().flatten();
    // Now may be between the two occurrences of a repeated hour.
    let times = days.flat_map(|day| {
        let local = day.to_datetime(time);
        [edge.choice(), Disambiguation::Earlier].map(|choice| local_time(local, now.time_zone(), choice))
    });
    times.flatten().find(|time| *time <= now.timestamp())
}

fn local_time(local: DateTime, zone: &TimeZone, choice: Disambiguation) -> Option<Timestamp> {
    Some(zone.to_ambiguous_zoned(local).disambiguate(choice).ok()?.timestamp())
}

/// Start time of a process, by the wall clock of this sample.
pub fn started(sample: &Sample, identity: Identity) -> Timestamp {
    timestamp_at(sample, identity.started_ns)
}

/// Converts ns since boot to a time, by the wall clock of this sample.
pub fn timestamp_at(sample: &Sample, boottime_ns: u64) -> Timestamp {
    let ms = |ns: u64| i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX);
    let past = ms(sample.boottime_ns.saturating_sub(boottime_ns));
    let future = ms(boottime_ns.saturating_sub(sample.boottime_ns));
    timestamp(sample.wall_ms.saturating_sub(past).saturating_add(future))
}

/// Converts ms since the Unix epoch; out-of-range values are clamped.
pub fn timestamp(unix_ms: i64) -> Timestamp {
    let bounded = unix_ms.clamp(Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond());
    Timestamp::from_millisecond(bounded).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use jiff::tz;
    use proptest::prelude::*;

    use super::*;

    /// 2011-07-13 00:20:00, two hours east of Greenwich.
    fn now() -> Zoned {
        let zone = TimeZone::fixed(tz::offset(2));
        "2011-07-12T22:20:00Z".parse::<Timestamp>().unwrap().to_zoned(zone)
    }

    #[test]
    fn many_notations_are_understood() {
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
            ("2011-07-10 00:12", "2011-07-09T22:12:00Z"),
            ("2011-07-10T23:12:22", "2011-07-10T21:12:22Z"),
            ("2011-07-13T00:12:22+00:00", "2011-07-13T00:12:22Z"),
            ("2011-07-13T00:12:22Z", "2011-07-13T00:12:22Z"),
        ] {
            assert_eq!(parse_time(text, &now(), Edge::Begin).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn a_repeated_hour_is_inside_the_window() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        for (now, text, begin, end) in [
            ("2026-10-25T06:00:00Z", "02:30", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
            ("2026-10-25T06:00:00Z", "2026-10-25 02:30", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
            // At the second 02:40: 02:50 has occurred once so far.
            ("2026-10-25T01:40:00Z", "02:50", "2026-10-25T00:50:00Z", "2026-10-25T00:50:00Z"),
            // At the first 02:40.
            ("2026-10-25T00:40:00Z", "02:30", "2026-10-25T00:30:00Z", "2026-10-25T00:30:00Z"),
            // In spring this time does not exist: the window includes both interpretations.
            ("2026-03-29T06:00:00Z", "02:30", "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"),
            ("2026-10-26T06:00:00Z", "02:30", "2026-10-26T01:30:00Z", "2026-10-26T01:30:00Z"),
        ] {
            let now = now.parse::<Timestamp>().unwrap().to_zoned(zone.clone());
            let read = |edge| parse_time(text, &now, edge).unwrap().to_string();
            assert_eq!((read(Edge::Begin), read(Edge::End)), (begin.to_owned(), end.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_time_of_day_that_ends_a_window_is_todays_even_if_it_is_still_to_come() {
        // It is 00:20.
        for (text, begin, end) in [
            ("00:12", "2011-07-12T22:12:00Z", "2011-07-12T22:12:00Z"),
            ("00:20", "2011-07-12T22:20:00Z", "2011-07-12T22:20:00Z"),
            ("00:21", "2011-07-11T22:21:00Z", "2011-07-12T22:21:00Z"),
            ("17:59", "2011-07-12T15:59:00Z", "2011-07-13T15:59:00Z"),
        ] {
            let read = |edge| parse_time(text, &now(), edge).unwrap().to_string();
            assert_eq!((read(Edge::Begin), read(Edge::End)), (begin.to_owned(), end.to_owned()), "{text}");
        }
    }

    #[test]
    fn two_times_of_day_are_a_window_of_less_than_a_day() {
        // It is 00:20.
        for (since, until, end) in [
            ("22:00", "23:00", "2011-07-12T21:00:00Z"),
            ("22:00", "00:10", "2011-07-12T22:10:00Z"),
            ("22:00", "06:00", "2011-07-13T04:00:00Z"),
            ("00:10", "17:59", "2011-07-13T15:59:00Z"),
            ("2011-07-10 22:00", "23:00", "2011-07-13T21:00:00Z"),
            ("24h", "23:00", "2011-07-13T21:00:00Z"),
            ("22:00", "2011-07-13 00:15", "2011-07-12T22:15:00Z"),
            ("22:00", "5m", "2011-07-12T22:15:00Z"),
        ] {
            let from = parse_time(since, &now(), Edge::Begin).unwrap();
            let until = parse_end(until, since, Some(from), &now()).unwrap();
            assert_eq!(until.to_string(), end, "since {since}");
        }
        let until = parse_end("23:00", "start", None, &now()).unwrap();
        assert_eq!(until.to_string(), "2011-07-13T21:00:00Z");
    }

    #[test]
    fn an_invalid_time_is_refused_with_a_hint() {
        for text in ["", "yesterday evening", "25:00", "2011-13-01", "5 parsecs", "+5m"] {
            let error = parse_time(text, &now(), Edge::Begin).unwrap_err();
            assert_eq!(error.kind().exit_code(), 2, "{text}");
            assert_eq!(error.hints().len(), 1);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,24}|[0-9]{0,22}[smhdwy]") {
            let _ = parse_time(&text, &now(), Edge::End);
        }
    }
}
