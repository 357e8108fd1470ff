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
        text::{counted, duration, local, printable, size},
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

/// Reports that a host cannot record something: a note on stderr, and an object with `--output json`. `name` is that of the
/// record, `host` the host in a sentence.
///
/// # Errors
/// When stdout cannot be written.
pub(crate) fn unrecorded(output: &Output, name: &str, host: &str, unrecorded: &Unrecorded) -> Result<()> {
    let Unrecorded { what, why, hint } = *unrecorded;
    let message = format!("{host} cannot record {what}: {why}");
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
    let recorder = info.recorder.as_ref().map(state).unwrap_or_default();
    let lost = match info.lost.as_slice() {
        [] => vec![("lost", "nothing".to_owned())],
        lost => lost.iter().map(|sentence| ("lost", printable(sentence))).collect(),
    };
    let rows = [contents(info, zone), recorder, lost].concat();
    rows.iter().try_for_each(|(name, what)| output.line(format!("{name:<10} {what}")))
}

/// A line of text output: its name and the rest.
type Row = (&'static str, String);

fn contents(info: &InfoReply, zone: &TimeZone) -> Vec<Row> {
    let at = |unix_ms| local(timestamp(unix_ms), zone);
    let length = u64::try_from(info.newest_unix_ms.saturating_sub(info.oldest_unix_ms)).unwrap_or(0);
    let range = format!("{} to {} ({})", at(info.oldest_unix_ms), at(info.newest_unix_ms), duration(length));
    let mut rows = vec![("range", range), ("samples", samples(info)), ("size", space(info))];
    rows.extend(gaps(info, zone));
    // In a container all boots have the kernel's boot id.
    let restarts =
        format!("{} of the kernel; those of a container or of the recorder are gaps", info.restarts);
    rows.push(("restarts", restarts));
    rows
}

fn state(recorder: &Recorder) -> Vec<Row> {
    let stopped = "not running: these are the last samples".to_owned();
    let dropped = format!("{} since recorder start", counted(recorder.dropped, "sample"));
    let about = [("collector", collector(recorder)), ("overhead", cost(recorder)), ("dropped", dropped)];
    (!recorder.running).then_some(("recorder", stopped)).into_iter().chain(about).collect()
}

fn samples(info: &InfoReply) -> String {
    let (samples, blocks) = (info.samples, counted(info.blocks, "block"));
    match info.block_samples {
        0 if info.blocks == 0 => format!("{samples}, none of them in a block yet"),
        some @ 1.. if some < samples => format!("{samples}, {some} of them in {blocks}"),
        // All of them; or an older agent, which does not say.
        _ => format!("{samples} in {blocks}"),
    }
}

fn space(info: &InfoReply) -> String {
    // Only blocks show what a sample takes: space is reserved for those that come.
    let rounded = info.block_bytes.saturating_add(info.block_samples / 2);
    let each = match rounded.checked_div(info.block_samples) {
        None => String::new(),
        Some(each) => format!(", {each} B per sample in blocks"),
    };
    let bounds = match (info.max_bytes, info.max_age_s) {
        (0, 0) => String::new(),
        (bytes, age_s) => {
            format!("; kept up to {} or {}", size(bytes), duration(age_s.saturating_mul(1_000)))
        }
    };
    format!("{} on disk{each}{bounds}", size(info.bytes))
}

/// How many gaps there are, and the longest ones.
fn gaps(info: &InfoReply, zone: &TimeZone) -> Vec<Row> {
    let at = |unix_ms| local(timestamp(unix_ms), zone);
    let mut longest: Vec<_> = info.gaps.iter().collect();
    longest.sort_by_key(|gap| std::cmp::Reverse(gap.length_ms));
    let count = match longest.len() {
        0 => "none".to_owned(),
        // Of the gaps in one block only the longest is known.
        count if count > GAPS => format!("at least {count}; the longest:"),
        count => format!("at least {count}:"),
    };
    let told = longest.iter().take(GAPS).map(|gap| {
        let (length, from, until) = (duration(gap.length_ms), at(gap.from_unix_ms), at(gap.until_unix_ms));
        ("", format!("{length} between {from} and {until}"))
    });
    [("gaps", count)].into_iter().chain(told).collect()
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
        "max_age_s": info.max_age_s, "block_samples": info.block_samples, "block_bytes": info.block_bytes,
        "gaps": gaps, "kernel_restarts": info.restarts, "lost": info.lost,
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
    let (samples, runs) = (counted(samples, "sample"), counted(runs as u64, "run"));
    output.line(format!("{host}: {samples}, {}, and {runs}{before}", size(bytes)))?;
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
            block_samples: 86_100,
            // 521.6 bytes for each.
            block_bytes: 44_909_760,
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
        let young = InfoReply {
            samples: 52,
            blocks: 0,
            block_samples: 0,
            block_bytes: 0,
            gaps: Vec::new(),
            lost: Vec::new(),
            recorder: None,
            max_bytes: 0,
            max_age_s: 0,
            ..reply()
        };
        info(&output, "db-1", &young, &TimeZone::UTC).unwrap();
        insta::assert_snapshot!(data.text(), @r"
        range      2011-07-13 00:12:22 to 2011-07-14 00:12:22 (1 d 0 h)
        samples    86231, 86100 of them in 288 blocks
        size       43 MiB on disk, 522 B per sample in blocks; kept up to 1.0 GiB or 7 d 0 h
        gaps       at least 2:
                   43.0 s between 2011-07-13 04:06:40 and 2011-07-13 04:07:23
                   4.2 s between 2011-07-13 01:20:00 and 2011-07-13 01:20:04
        restarts   1 of the kernel; those of a container or of the recorder are gaps
        collector  bpf, without: kernel log, pressure trigger
        overhead   0.21 % of one CPU, 1.1 ms per sample
        dropped    3 samples since recorder start
        lost       50 bytes of history cannot be read: cut short
        range      2011-07-13 00:12:22 to 2011-07-14 00:12:22 (1 d 0 h)
        samples    52, none of them in a block yet
        size       43 MiB on disk
        gaps       none
        restarts   1 of the kernel; those of a container or of the recorder are gaps
        lost       nothing
        ");
        let (output, data, _) = pages(Format::Json);
        info(&output, "db-1", &reply(), &TimeZone::UTC).unwrap();
        insta::assert_snapshot!(data.text(), @r#"{"block_bytes":44909760,"block_samples":86100,"blocks":288,"bytes":45088768,"gaps":[{"from":"2011-07-13T01:20:00Z","length_ms":4200,"until":"2011-07-13T01:20:04.2Z"},{"from":"2011-07-13T04:06:40Z","length_ms":43000,"until":"2011-07-13T04:07:23Z"}],"kernel_restarts":1,"lost":["50 bytes of history cannot be read: cut short"],"max_age_s":604800,"max_bytes":1073741824,"newest":"2011-07-14T00:12:22Z","of":"db-1","oldest":"2011-07-13T00:12:22Z","recorder":{"bytes":0,"collector":"bpf","cpu_ppm":2130,"dropped":3,"last_sample_unix_ms":0,"missing":["kernel log","pressure trigger"],"running":true,"sweep_us":1140},"samples":86231,"type":"record","v":1}"#);
    }

    #[test]
    fn samples_are_counted_in_and_out_of_blocks() {
        let counted = |blocks, block_samples| {
            samples(&InfoReply { samples: 60, blocks, block_samples, ..InfoReply::default() })
        };
        assert_eq!(counted(1, 60), "60 in 1 block");
        assert_eq!(counted(2, 40), "60, 40 of them in 2 blocks");
        assert_eq!(counted(0, 0), "60, none of them in a block yet");
        assert_eq!(counted(2, 0), "60 in 2 blocks", "an older agent");
    }

    #[test]
    fn only_the_longest_gaps_are_listed() {
        let gaps: Vec<_> = (1..=7)
            .map(|second| Gap {
                from_unix_ms: 0,
                until_unix_ms: second * 1_000,
                length_ms: second as u64 * 1_000,
            })
            .collect();
        let rows = super::gaps(&InfoReply { gaps, ..InfoReply::default() }, &TimeZone::UTC);
        assert_eq!((rows.len(), rows[0].1.as_str()), (1 + GAPS, "at least 7; the longest:"));
        assert_eq!(rows[5].1, "3.0 s between 1970-01-01 00:00:00 and 1970-01-01 00:00:03");
    }

    #[test]
    fn text_from_a_host_never_controls_the_terminal() {
        let (output, data, talk) = pages(Format::Text);
        let evil = || "\u{1b}]0;x\u{7}\u{9b}2J\r\u{202e}".to_owned();
        let recorder = Recorder { collector: evil(), missing: vec![evil()], ..Recorder::default() };
        let reply = InfoReply { lost: vec![evil()], recorder: Some(recorder), ..reply() };
        info(&output, "db-1", &reply, &TimeZone::UTC).unwrap();
        let exits = Unrecorded { what: "process exits", why: "it is in a container", hint: "look elsewhere" };
        unrecorded(&output, "db-1", &evil(), &exits).unwrap();
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
            unrecorded(&output, "db-1", "db-1", &exits).unwrap();
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
