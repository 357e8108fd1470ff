//! Contents of a record, and the result of copying one.

use std::path::Path;

use jiff::tz::TimeZone;
use proto::pb::{InfoReply, Recorder};
use serde_json::{Value, json};

use crate::{
    error::Result,
    record::{source::Fetched, time::timestamp},
    render::{
        Output,
        text::{duration, local, printable, size},
    },
};

/// How many gaps are listed, longest first.
const GAPS: usize = 5;

/// Something that a host cannot record: an empty result does not mean that nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unrecorded {
    /// What is missing, a plural noun.
    pub what: &'static str,
    /// Why the host cannot record it.
    pub why: &'static str,
    /// An alternative to try, with its command.
    pub hint: &'static str,
}

/// Reports that a host cannot record something: a note on stderr, and an object with `--output json`.
///
/// # Errors
/// When stdout cannot be written.
pub(crate) fn unrecorded(output: &Output, name: &str, unrecorded: &Unrecorded) -> Result<()> {
    let Unrecorded { what, why, hint } = *unrecorded;
    let message = format!("{name} cannot record {what}: {why}");
    output.note(&printable(&message));
    output.note(&format!("hint: {hint}"));
    if output.is_json() {
        return output
            .record("unrecorded", json!({ "of": name, "what": what, "message": message, "hint": hint }));
    }
    Ok(())
}

/// Prints the contents of a record. Times are shown in `zone`.
///
/// # Errors
/// When stdout cannot be written.
pub(crate) fn info(output: &Output, name: &str, info: &InfoReply, zone: &TimeZone) -> Result<()> {
    if output.is_json() {
        return output.record("record", object(name, info));
    }
    let at = |unix_ms| local(timestamp(unix_ms), zone);
    let length = u64::try_from(info.newest_unix_ms.saturating_sub(info.oldest_unix_ms)).unwrap_or(0);
    let line = |name: &str, what: String| output.line(format!("{name:<10} {what}"));
    line(
        "range",
        format!("{} to {} ({})", at(info.oldest_unix_ms), at(info.newest_unix_ms), duration(length)),
    )?;
    line("samples", format!("{} in {} blocks", info.samples, info.blocks))?;
    line("size", space(info))?;
    line("gaps", gaps(info, zone))?;
    line("restarts", info.restarts.to_string())?;
    if let Some(recorder) = &info.recorder {
        if !recorder.running {
            line("recorder", "not running: these are the last samples".to_owned())?;
        }
        line("collector", collector(recorder))?;
        line("overhead", cost(recorder))?;
        line("dropped", format!("{} samples since recorder start", recorder.dropped))?;
    }
    match info.lost.as_slice() {
        [] => line("lost", "nothing".to_owned()),
        lost => lost.iter().try_for_each(|sentence| line("lost", printable(sentence))),
    }
}

fn space(info: &InfoReply) -> String {
    let each = info.bytes.checked_div(info.samples).unwrap_or(0);
    let bounds = match (info.max_bytes, info.max_age_s) {
        (0, 0) => String::new(),
        (bytes, age_s) => {
            format!("; kept up to {} or {}", size(bytes), duration(age_s.saturating_mul(1_000)))
        }
    };
    format!("{} on disk, {each} B per sample{bounds}", size(info.bytes))
}

fn gaps(info: &InfoReply, zone: &TimeZone) -> String {
    let mut longest: Vec<_> = info.gaps.iter().collect();
    longest.sort_by_key(|gap| std::cmp::Reverse(gap.length_ms));
    let told: Vec<_> = longest
        .iter()
        .take(GAPS)
        .map(|gap| format!("{} at {}", duration(gap.length_ms), local(timestamp(gap.from_unix_ms), zone)))
        .collect();
    match told.as_slice() {
        [] => "none".to_owned(),
        told => format!("{}, longest: {}", info.gaps.len(), told.join("; ")),
    }
}

/// `bpf, without: kernel log, pressure trigger`
pub(in crate::render) fn collector(recorder: &Recorder) -> String {
    let missing: Vec<_> = recorder.missing.iter().map(|name| printable(name)).collect();
    let collector = printable(&recorder.collector);
    if missing.is_empty() { collector } else { format!("{collector}, without: {}", missing.join(", ")) }
}

fn cost(recorder: &Recorder) -> String {
    format!("{} of one CPU, {} per sample", cpu(recorder), sweep(recorder))
}

/// `0.21 %`
pub(in crate::render) fn cpu(recorder: &Recorder) -> String {
    format!("{:.2} %", recorder.cpu_ppm as f64 / 1e4)
}

fn sweep(recorder: &Recorder) -> String {
    format!("{:.1} ms", recorder.sweep_us as f64 / 1e3)
}

fn object(name: &str, info: &InfoReply) -> Value {
    let gaps: Vec<_> = info
        .gaps
        .iter()
        .map(|gap| {
            json!({ "from": timestamp(gap.from_unix_ms), "until": timestamp(gap.until_unix_ms), "length_ms": gap.length_ms })
        })
        .collect();
    json!({
        "of": name, "oldest": timestamp(info.oldest_unix_ms), "newest": timestamp(info.newest_unix_ms),
        "samples": info.samples, "blocks": info.blocks, "bytes": info.bytes, "max_bytes": info.max_bytes,
        "max_age_s": info.max_age_s, "gaps": gaps, "restarts": info.restarts, "lost": info.lost,
        "recorder": info.recorder.as_ref().map(recorder_object),
    })
}

/// The recorder's status as JSON.
pub(in crate::render) fn recorder_object(recorder: &Recorder) -> Value {
    json!({
        "running": recorder.running, "last_sample_unix_ms": recorder.last_sample_unix_ms, "bytes": recorder.bytes,
        "collector": recorder.collector, "missing": recorder.missing, "cpu_ppm": recorder.cpu_ppm,
        "sweep_us": recorder.sweep_us, "dropped": recorder.dropped,
    })
}

/// Prints the result of copying a record.
///
/// # Errors
/// As [`info`].
pub(crate) fn fetched(
    output: &Output,
    directory: &Path,
    host: &str,
    fetched: &Fetched,
    runs: usize,
) -> Result<()> {
    let Fetched { samples, bytes, present } = *fetched;
    if output.is_json() {
        return output.record(
            "fetched",
            json!({
                "host": host, "directory": directory, "samples": samples, "bytes": bytes, "present": present,
                "runs": runs,
            }),
        );
    }
    let before = match present {
        0 => String::new(),
        present => format!("; {present} already present"),
    };
    output.line(format!("{host}: {samples} samples, {}, and {runs} runs{before}", size(bytes)))?;
    output.note(&format!("read it with `ctl cpu-log --from-dir {}`", directory.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use proto::pb::Gap;

    use super::*;
    use crate::{render::Format, render::tests::pages};

    fn reply() -> InfoReply {
        let gap = |from_unix_ms, length_ms: u64| Gap {
            from_unix_ms,
            until_unix_ms: from_unix_ms + length_ms as i64,
            length_ms,
        };
        InfoReply {
            oldest_unix_ms: 1_310_515_942_000,
            newest_unix_ms: 1_310_602_342_000,
            samples: 86_231,
            blocks: 288,
            bytes: 43 << 20,
            max_bytes: 1 << 30,
            max_age_s: 604_800,
            gaps: vec![gap(1_310_520_000_000, 4_200), gap(1_310_530_000_000, 43_000)],
            restarts: 1,
            lost: vec!["50 bytes of history cannot be read: cut short".into()],
            recorder: Some(Recorder {
                running: true,
                collector: "bpf".into(),
                missing: vec!["kernel log".into(), "pressure trigger".into()],
                cpu_ppm: 2_130,
                sweep_us: 1_140,
                dropped: 3,
                ..Recorder::default()
            }),
        }
    }

    #[test]
    fn a_record_is_summarized() {
        let (output, data, _) = pages(Format::Text);
        info(&output, "db-1", &reply(), &TimeZone::UTC).unwrap();
        let whole = InfoReply {
            gaps: Vec::new(),
            lost: Vec::new(),
            recorder: None,
            max_bytes: 0,
            max_age_s: 0,
            ..reply()
        };
        info(&output, "db-1", &whole, &TimeZone::UTC).unwrap();
        insta::assert_snapshot!(data.text(), @r"
        range      2011-07-13 00:12:22 to 2011-07-14 00:12:22 (1 d 0 h)
        samples    86231 in 288 blocks
        size       43 MiB on disk, 522 B per sample; kept up to 1.0 GiB or 7 d 0 h
        gaps       2, longest: 43.0 s at 2011-07-13 04:06:40; 4.2 s at 2011-07-13 01:20:00
        restarts   1
        collector  bpf, without: kernel log, pressure trigger
        overhead   0.21 % of one CPU, 1.1 ms per sample
        dropped    3 samples since recorder start
        lost       50 bytes of history cannot be read: cut short
        range      2011-07-13 00:12:22 to 2011-07-14 00:12:22 (1 d 0 h)
        samples    86231 in 288 blocks
        size       43 MiB on disk, 522 B per sample
        gaps       none
        restarts   1
        lost       nothing
        ");
        let (output, data, _) = pages(Format::Json);
        info(&output, "db-1", &reply(), &TimeZone::UTC).unwrap();
        insta::assert_snapshot!(data.text(), @r#"{"blocks":288,"bytes":45088768,"gaps":[{"from":"2011-07-13T01:20:00Z","length_ms":4200,"until":"2011-07-13T01:20:04.2Z"},{"from":"2011-07-13T04:06:40Z","length_ms":43000,"until":"2011-07-13T04:07:23Z"}],"lost":["50 bytes of history cannot be read: cut short"],"max_age_s":604800,"max_bytes":1073741824,"newest":"2011-07-14T00:12:22Z","of":"db-1","oldest":"2011-07-13T00:12:22Z","recorder":{"bytes":0,"collector":"bpf","cpu_ppm":2130,"dropped":3,"last_sample_unix_ms":0,"missing":["kernel log","pressure trigger"],"running":true,"sweep_us":1140},"restarts":1,"samples":86231,"type":"record","v":1}"#);
    }

    #[test]
    fn text_from_a_host_never_controls_the_terminal() {
        let (output, data, talk) = pages(Format::Text);
        let evil = || "\u{1b}]0;x\u{7}\u{9b}2J\r\u{202e}".to_owned();
        let recorder = Recorder { collector: evil(), missing: vec![evil()], ..Recorder::default() };
        let reply = InfoReply { lost: vec![evil()], recorder: Some(recorder), ..reply() };
        info(&output, "db-1", &reply, &TimeZone::UTC).unwrap();
        let exits = Unrecorded { what: "process exits", why: "it is in a container", hint: "look elsewhere" };
        unrecorded(&output, &evil(), &exits).unwrap();
        let said = data.text() + &talk.text();
        assert!(!said.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{said:?}");
    }

    #[test]
    fn what_a_host_cannot_record_is_reported() {
        let exits = Unrecorded { what: "process exits", why: "it is in a container", hint: "look elsewhere" };
        for (format, expected) in [
            (Format::Text, ""),
            (Format::Csv, ""),
            (
                Format::Json,
                "{\"hint\":\"look elsewhere\",\"message\":\"db-1 cannot record process exits: it is in a container\",\"of\":\"db-1\",\"type\":\"unrecorded\",\"v\":1,\"what\":\"process exits\"}\n",
            ),
        ] {
            let (output, data, talk) = pages(format);
            unrecorded(&output, "db-1", &exits).unwrap();
            assert_eq!(data.text(), expected);
            assert_eq!(
                talk.text(),
                "db-1 cannot record process exits: it is in a container\nhint: look elsewhere\n"
            );
        }
    }

    #[test]
    fn a_copy_says_what_is_new() {
        let (output, data, talk) = pages(Format::Text);
        let all = Fetched { samples: 3_600, bytes: 2 << 20, present: 300 };
        fetched(&output, Path::new("/tmp/db-1"), "db-1", &all, 2).unwrap();
        insta::assert_snapshot!(data.text(), @"db-1: 3600 samples, 2.0 MiB, and 2 runs; 300 already present");
        insta::assert_snapshot!(talk.text(), @"read it with `ctl cpu-log --from-dir /tmp/db-1`");
    }
}
