//! Summary of a time window: one line per process.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use super::log::{cell::command, remark::ending};
use crate::{
    error::Result,
    record::{
        exits::Ending,
        log::Track,
        names::{unit, user_name},
        time::timestamp,
    },
    render::Format,
    render::{
        Output, csv, table,
        text::{duration, printable, size},
    },
};

/// JSON keys and CSV columns.
const KEYS: [&str; 22] = [
    "pid",
    "user",
    "name",
    "command",
    "unit",
    "cpu_s",
    "mean_cpu_percent",
    "peak_cpu_percent",
    "peak_resident_bytes",
    "peak_swap_bytes",
    "peak_footprint_bytes",
    "peak_footprint_at",
    "read_bytes",
    "written_bytes",
    "first",
    "last",
    "exit_code",
    "signal",
    "boot_id",
    "started_after_boot_s",
    "cpu_is_lower_bound",
    "io_is_lower_bound",
];

/// Prints the tracks in the given order. Times are shown in `zone`.
///
/// # Errors
/// When stdout cannot be written.
pub(crate) fn summary(output: &Output, tracks: &[Track], zone: &TimeZone) -> Result<()> {
    match output.format() {
        Format::Text => text(output, tracks, zone),
        Format::Json => tracks.iter().try_for_each(|track| output.record("summary", values(track))),
        Format::Csv => {
            let mut rows = csv::row(KEYS.map(Into::into));
            for track in tracks {
                rows.push_str(&csv::values(&values(track), &KEYS));
            }
            output.page(rows.as_bytes())
        }
    }
}

fn text(output: &Output, tracks: &[Track], zone: &TimeZone) -> Result<()> {
    let is_one_day = {
        let mut days =
            tracks.iter().flat_map(|track| [track.first_ms, track.last_ms]).map(|ms| day(ms, zone));
        let first = days.next();
        days.all(|day| Some(day) == first)
    };
    let format = if is_one_day { "%H:%M:%S" } else { "%b%d %H:%M:%S" };
    let at = |ms| timestamp(ms).to_zoned(zone.clone()).strftime(format).to_string();
    let percent = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    let kib = |kib: u64| size(kib.saturating_mul(1024));
    let rows = tracks.iter().map(|track| {
        let process = &track.process;
        let bytes = |value: Option<u64>| bounded(value, track.io_is_lower_bound(), size);
        [
            printable(&user_name(process)),
            process.identity.pid.to_string(),
            bounded(Some(track.cpu_us() / 1_000), track.cpu_is_lower_bound(), duration),
            percent(track.mean_cpu_percent()),
            percent(track.peak_cpu_percent),
            kib(track.peak_resident_kib),
            kib(track.peak_footprint_kib),
            at(track.peak_footprint_ms),
            bytes(track.read_bytes()),
            bytes(track.written_bytes()),
            at(track.first_ms),
            at(track.last_ms),
            track.status.map_or_else(|| "-".to_owned(), ending),
            command(process.command.as_deref(), &process.comm),
        ]
    });
    let head = [
        "USER",
        "PID",
        "CPU",
        "MEAN%",
        "PEAK%",
        "PEAK RSS",
        "PEAK FOOTPRINT",
        "AT",
        "READ",
        "WRITTEN",
        "FIRST",
        "LAST",
        "END",
        "COMMAND",
    ];
    table::print(output, head, rows.collect())
}

/// A value, `≥` before a lower bound; `-` if it is unknown, which a lower bound of 0 is too.
fn bounded(value: Option<u64>, is_lower_bound: bool, show: fn(u64) -> String) -> String {
    match value {
        None => "-".to_owned(),
        Some(0) if is_lower_bound => "-".to_owned(),
        Some(value) if is_lower_bound => format!("≥ {}", show(value)),
        Some(value) => show(value),
    }
}

fn day(ms: i64, zone: &TimeZone) -> jiff::civil::Date {
    timestamp(ms).to_zoned(zone.clone()).date()
}

fn values(track: &Track) -> serde_json::Value {
    let process = &track.process;
    let rounded = |value: Option<f64>| value.map(|value| (value * 100.0).round() / 100.0);
    let bytes = |kib: u64| kib.saturating_mul(1024);
    let at = |ms| -> Timestamp { timestamp(ms) };
    let ending = track.status.map(Ending::of);
    let code = match ending {
        Some(Ending::Code(code)) => Some(code),
        _ => None,
    };
    json!({
        "pid": process.identity.pid, "user": &*user_name(process), "name": &*process.comm,
        "command": process.command.as_deref(),
        "unit": process.cgroup.as_deref().and_then(unit), "cpu_s": track.cpu_us() as f64 / 1e6,
        "mean_cpu_percent": rounded(track.mean_cpu_percent()), "peak_cpu_percent": rounded(track.peak_cpu_percent),
        "peak_resident_bytes": bytes(track.peak_resident_kib), "peak_swap_bytes": bytes(track.peak_swap_kib),
        "peak_footprint_bytes": bytes(track.peak_footprint_kib), "peak_footprint_at": at(track.peak_footprint_ms),
        "read_bytes": track.read_bytes(), "written_bytes": track.written_bytes(),
        "first": at(track.first_ms), "last": at(track.last_ms), "exit_code": code,
        "signal": ending.and_then(Ending::signal_name), "boot_id": track.boot_id.to_string(),
        "started_after_boot_s": process.identity.started_ns as f64 / 1e9,
        "cpu_is_lower_bound": track.cpu_is_lower_bound(), "io_is_lower_bound": track.io_is_lower_bound(),
    })
}

#[cfg(test)]
mod tests {
    use record::{Exit, Identity, Process, Sample, Sources};

    use super::*;
    use crate::{
        record::{log::Summary, query::Query},
        render::tests::pages,
    };

    fn tracks() -> Vec<Track> {
        tracks_of(Sources::EXITS)
    }

    /// A process that ends, on a host with these sources.
    fn tracks_of(sources: Sources) -> Vec<Track> {
        let identity = Identity { pid: 26_096, started_ns: 1_000_000_000 };
        let apache = |second: u64| Process {
            uid: Some(33),
            user: Some("www-data".into()),
            comm: "apache2".into(),
            command: Some("/usr/sbin/apache2 -k start".into()),
            cgroup: Some("/system.slice/apache2.service".into()),
            user_us: second * 400_000,
            resident_kib: 5_972,
            anon_kib: Some(4_000 * second),
            swap_kib: Some(29_000),
            read_bytes: Some(second << 20),
            written_bytes: Some(0),
            ..Process::bare(identity)
        };
        let mut summary = Summary::new(Query::default());
        for second in 1..5_u64 {
            let exit = Exit {
                identity,
                parent: 1,
                uid: 33,
                comm: "apache2".into(),
                at_ns: second * 1_000_000_000,
                lived_us: 0,
                user_us: second * 400_000,
                system_us: 0,
                peak_kib: 7_000,
                status: 9,
                major_faults: 0,
                read_bytes: 0,
                written_bytes: 0,
            };
            summary.push(&Sample {
                wall_ms: 1_310_515_942_000 + second as i64 * 1_000,
                boottime_ns: second * 1_000_000_000,
                processes: if second < 4 { vec![apache(second)] } else { Vec::new() },
                sources,
                exits: if second == 4 && sources.has(Sources::EXITS) { vec![exit] } else { Vec::new() },
                ..Sample::default()
            });
        }
        summary.finish()
    }

    #[test]
    fn a_summary_is_one_line_per_process() {
        let (output, data, _) = pages(Format::Text);
        summary(&output, &tracks(), &TimeZone::UTC).unwrap();
        insta::assert_snapshot!(data.text(), @r"
        USER      PID    CPU    MEAN%  PEAK%  PEAK RSS  PEAK FOOTPRINT  AT        READ     WRITTEN  FIRST     LAST      END                COMMAND
        www-data  26096  1.2 s  40.0   40.0   6.8 MiB   40 MiB          00:12:25  2.0 MiB  0 B      00:12:23  00:12:26  killed by SIGKILL  /usr/sbin/apache2 -k start
        ");
    }

    #[test]
    fn what_only_the_last_sample_of_an_ended_process_shows_is_a_lower_bound() {
        let (output, data, _) = pages(Format::Text);
        summary(&output, &tracks_of(Sources::default()), &TimeZone::UTC).unwrap();
        insta::assert_snapshot!(data.text(), @r"
        USER      PID    CPU       MEAN%  PEAK%  PEAK RSS  PEAK FOOTPRINT  AT        READ       WRITTEN  FIRST     LAST      END  COMMAND
        www-data  26096  ≥ 800 ms  40.0   40.0   5.8 MiB   40 MiB          00:12:25  ≥ 2.0 MiB  -        00:12:23  00:12:25  -    /usr/sbin/apache2 -k start
        ");
        let json = values(&tracks_of(Sources::default())[0]);
        assert_eq!((&json["cpu_is_lower_bound"], &json["io_is_lower_bound"]), (&true.into(), &true.into()));
        assert_eq!((&json["read_bytes"], &json["written_bytes"]), (&2_097_152.into(), &json!(null)));
    }

    #[test]
    fn a_name_controls_neither_a_terminal_nor_a_spreadsheet() {
        for format in [Format::Text, Format::Csv] {
            let mut tracks = tracks();
            tracks[0].process.command = Some("=HYPERLINK(1)\u{1b}]0;x\u{7}".into());
            tracks[0].process.user = Some("\u{9b}2J\u{202e}".into());
            tracks[0].process.cgroup = Some("/\u{1b}[2J.service".into());
            let (output, data, _) = pages(format);
            summary(&output, &tracks, &TimeZone::UTC).unwrap();
            let said = data.text();
            assert!(!said.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{said:?}");
            assert!(
                format == Format::Text || !said.contains(",=") && said.contains(",'=HYPERLINK"),
                "{said}"
            );
        }
    }

    #[test]
    fn programs_get_objects_or_rows() {
        for format in [Format::Json, Format::Csv] {
            let (output, data, _) = pages(format);
            summary(&output, &tracks(), &TimeZone::UTC).unwrap();
            match format {
                Format::Json => {
                    insta::assert_snapshot!(data.text(), @r#"{"boot_id":"00000000-0000-0000-0000-000000000000","command":"/usr/sbin/apache2 -k start","cpu_is_lower_bound":false,"cpu_s":1.2,"exit_code":null,"first":"2011-07-13T00:12:23Z","io_is_lower_bound":false,"last":"2011-07-13T00:12:26Z","mean_cpu_percent":40.0,"name":"apache2","peak_cpu_percent":40.0,"peak_footprint_at":"2011-07-13T00:12:25Z","peak_footprint_bytes":41984000,"peak_resident_bytes":7168000,"peak_swap_bytes":29696000,"pid":26096,"read_bytes":2097152,"signal":"SIGKILL","started_after_boot_s":1.0,"type":"summary","unit":"apache2.service","user":"www-data","v":1,"written_bytes":0}"#)
                }
                _ => insta::assert_snapshot!(data.text(), @r"
                pid,user,name,command,unit,cpu_s,mean_cpu_percent,peak_cpu_percent,peak_resident_bytes,peak_swap_bytes,peak_footprint_bytes,peak_footprint_at,read_bytes,written_bytes,first,last,exit_code,signal,boot_id,started_after_boot_s,cpu_is_lower_bound,io_is_lower_bound
                26096,www-data,apache2,/usr/sbin/apache2 -k start,apache2.service,1.2,40.0,40.0,7168000,29696000,41984000,2011-07-13T00:12:25Z,2097152,0,2011-07-13T00:12:23Z,2011-07-13T00:12:26Z,,SIGKILL,00000000-0000-0000-0000-000000000000,1.0,false,false
                "),
            }
        }
    }
}
