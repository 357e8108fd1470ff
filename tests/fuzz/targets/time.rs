//! A point in time that is understood is understood again as it is shown, and a span never leads into the future.
#![no_main]

use std::sync::LazyLock;

use controller::record::time::{Edge, parse_time};
use fuzz::foreign;
use jiff::{Span, Timestamp, Zoned, civil, tz::TimeZone};
use libfuzzer_sys::fuzz_target;

const TEXTS: [&str; 10] = [
    "now",
    "5m",
    "3m ago",
    "1h30m",
    "2 days 3 hours",
    "-P1Y2M3DT4H5M6S",
    "23:59:30",
    "2011-07-13",
    "2011-07-13 00:12:22",
    "2011-07-13T00:12:22+02:00",
];
static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| TEXTS.map(Vec::from).to_vec());

/// Any second that can be written, in a zone with summer time.
fn moment(seed: [u8; 8]) -> Option<Zoned> {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
    let second = i64::from_le_bytes(seed) % Timestamp::MAX.as_second();
    Some(Timestamp::from_second(second).ok()?.to_zoned(zone))
}

fuzz_target!(|data: &[u8]| {
    let Some((seed, data)) = data.split_first_chunk() else { return };
    let (Some(now), Ok(text)) = (moment(*seed), String::from_utf8(foreign(&EXAMPLES, data))) else { return };
    let edge = if seed[0] & 1 == 0 { Edge::Begin } else { Edge::End };
    let time = match parse_time(&text, &now, edge) {
        Ok(time) => time,
        Err(error) => {
            assert_eq!((error.kind().exit_code(), error.hints().len()), (2, 1));
            return;
        }
    };
    assert_eq!(parse_time(&time.to_string(), &now, edge).expect("as it is shown"), time);
    let text = text.trim();
    let date = text.parse::<Timestamp>().is_ok() || text.parse::<civil::DateTime>().is_ok();
    if text.parse::<civil::Time>().is_ok() && !date {
        // A window may end later today.
        let ahead = if edge == Edge::End { 25 * 3600 } else { 0 };
        let behind = now.timestamp().as_second() - time.as_second();
        assert!((-ahead..=49 * 3600).contains(&behind));
    } else if text.parse::<Span>().is_ok() && !date {
        assert!(time <= now.timestamp());
    }
});
