//! The commands that read a record, from command line to output, on the disk of a dead host.

use std::{fs, path::Path};

use clap::Parser;
use record::{
    BootId, Builder, Encoder, Event, EventKind, Exit, HostCounters, Identity, Limits, Packer, Process,
    Sample, Sources,
};

use crate::commands::dispatch;
use crate::render::Format;
use crate::{cli::Cli, error::Error, render::tests::pages};

/// 2011-07-13 00:12:00 UTC.
const START_MS: i64 = 1_310_515_920_000;

fn process(pid: u32, comm: &str, second: u64) -> Process {
    Process {
        uid: Some(33),
        user: Some("www-data".into()),
        comm: comm.into(),
        command: Some(format!("/usr/sbin/{comm} -k start").into()),
        cgroup: Some(format!("/system.slice/{comm}.service").into()),
        state: b'S',
        threads: 1,
        user_us: second * 10_000 * u64::from(pid),
        resident_kib: 1_000 * u64::from(pid),
        anon_kib: Some(900 * u64::from(pid)),
        ..Process::bare(Identity { pid, started_ns: 0 })
    }
}

/// Ten samples, one per second; in the fifth, the OOM killer kills process 7.
fn samples(sources: Sources) -> Vec<Sample> {
    let sample = |second: u64| {
        let identity = Identity { pid: 7, started_ns: 0 };
        let exit = Exit {
            identity,
            parent: 1,
            uid: 33,
            comm: "apache2".into(),
            at_ns: second * 1_000_000_000,
            lived_us: 5_000_000,
            user_us: 350_000,
            system_us: 0,
            peak_kib: 8_000,
            status: 9,
            major_faults: 0,
            read_bytes: 0,
            written_bytes: 0,
        };
        let text = "mysqld invoked oom-killer: gfp_mask=0x140cca, order=0\n\
                    Out of memory: Killed process 7 (apache2) total-vm:9kB, anon-rss:6300kB";
        let event = Event { at_ns: second * 1_000_000_000, kind: EventKind::Kernel, text: text.into() };
        let killed = second == 5;
        Sample {
            wall_ms: START_MS + second as i64 * 1_000,
            boottime_ns: second * 1_000_000_000,
            interval_ms: 1_000,
            sources,
            host: HostCounters {
                memory_total_kib: Some(20_000),
                cgroup_oom_kills: Some(u64::from(second >= 5)),
                ..HostCounters::default()
            },
            exits_lost: sources.has(Sources::EXITS).then_some(0),
            exits: if killed && sources.has(Sources::EXITS) { vec![exit] } else { Vec::new() },
            events: if killed && sources.has(Sources::KERNEL_LOG) { vec![event] } else { Vec::new() },
            processes: if second < 5 {
                vec![process(7, "apache2", second), process(9, "mysqld", second)]
            } else {
                vec![process(9, "mysqld", second)]
            },
            ..Sample::default()
        }
    };
    (0..10).map(sample).collect()
}

fn disk(blocks: &[&[Sample]]) -> tempfile::TempDir {
    let disk = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(Limits { records: u32::MAX, bytes: usize::MAX });
    let mut builder = Builder::new(BootId::default(), 1);
    for samples in blocks {
        encoder.restart();
        for sample in *samples {
            let mut record = Vec::new();
            encoder.encode(sample, &mut record);
            builder.push(&record).unwrap();
        }
        builder.seal(&mut Packer::new().unwrap(), &mut bytes).unwrap();
        builder.clear();
    }
    fs::write(disk.path().join(format!("{:020}.blocks", 1)), bytes).unwrap();
    let run = r#"{"v":1,"host":"db-1","runs":[{"run_id":"db-1-x7k2m9","what":"apply","user":"ada","state":"changed",
        "started_unix_ms":1310515922500,"finished_unix_ms":1310515926500}]}"#;
    fs::write(disk.path().join("runs.json"), run).unwrap();
    disk
}

/// Runs a command; returns its result, stdout and stderr.
async fn typed(disk: &Path, line: &str) -> (Result<(), Error>, String, String) {
    let words = ["ctl"].into_iter().chain(line.split_whitespace());
    let cli = Cli::try_parse_from(words.chain(["--from-dir", disk.to_str().unwrap()])).unwrap();
    let (output, data, talk) = pages(cli.output);
    let result = dispatch(cli, &output).await;
    (result, data.text(), talk.text())
}

async fn shown(disk: &Path, line: &str) -> String {
    let (result, data, _) = typed(disk, line).await;
    result.unwrap();
    data
}

/// The output without its times, which depend on the time zone.
async fn timeless(disk: &Path, line: &str) -> String {
    let shown = shown(disk, line).await;
    let lines = shown.lines().map(|line| match line.strip_prefix("# ") {
        Some(remark) => format!("# {}", remark.get(20..).unwrap_or(remark)),
        None if line.starts_with("20") => line.get(20..).unwrap_or(line).to_owned(),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn all_sources() -> Sources {
    Sources::EXITS.with(Sources::KERNEL_LOG)
}

#[tokio::test]
async fn the_log_of_a_dead_host_has_processes_exits_kills_and_runs_in_one_timeline() {
    let samples = samples(all_sources());
    let disk = disk(&[&samples[..5], &samples[5..]]);
    let shown = timeless(disk.path(), "cpu-log --since 7s --columns pid,cpu,footprint,unit").await;
    insta::assert_snapshot!(shown, @r"
          9   9.0    8100 mysqld.service
          7   7.0    6300 apache2.service
    # run db-1-x7k2m9 apply by ada started
          9   9.0    8100 mysqld.service
          7   7.0    6300 apache2.service
          9   9.0    8100 mysqld.service
          7   7.0    6300 apache2.service
    # out-of-memory kill: pid 7 apache2, triggered by mysqld
    # exit 7 apache2: killed by SIGKILL, lived 5.0 s, CPU 0:00, peak 7.8 MiB
          9   9.0    8100 mysqld.service
          9   9.0    8100 mysqld.service
    # run db-1-x7k2m9 apply ended: changed
          9   9.0    8100 mysqld.service
          9   9.0    8100 mysqld.service
          9   9.0    8100 mysqld.service
    ");
}

#[tokio::test]
async fn selections_work_and_times_count_back_from_the_newest_sample() {
    let samples = samples(all_sources());
    let disk = disk(&[&samples]);
    for selection in ["--pid 7", "--unit apache2", "--command -k.start --user 33 --pid 7,8"] {
        let line = format!("cpu-log --since start --output csv --columns pid {selection}");
        let rows = shown(disk.path(), &line).await;
        assert_eq!(
            rows.lines().skip(1).map(|row| row.rsplit(',').next().unwrap()).collect::<Vec<_>>(),
            ["7"; 4]
        );
    }
    let first = shown(disk.path(), "cpu-log --since 2s --output csv --columns pid").await;
    assert_eq!(first.lines().nth(1), Some("2011-07-13T00:12:07Z,9"));
}

#[tokio::test]
async fn a_summary_an_exit_and_a_kill() {
    let samples = samples(all_sources());
    let disk = disk(&[&samples[..5], &samples[5..]]);
    let rows = shown(disk.path(), "cpu-log --since start --summary --sort footprint --output csv").await;
    let pids: Vec<_> = rows.lines().skip(1).map(|row| row.split(',').next().unwrap()).collect();
    assert_eq!(pids, ["9", "7"]);
    insta::assert_snapshot!(timeless(disk.path(), "exits --since start").await, @"www-data       7       1 SIGKILL          5.0 s    0:00   7.8 MiB /usr/sbin/apache2 -k start");
    insta::assert_snapshot!(timeless(disk.path(), "oom").await, @r"
    out-of-memory kill: pid 7 apache2 (www-data), 6.2 MiB: /usr/sbin/apache2 -k start
      triggered by     mysqld
      exhausted        all memory (20 MiB)
      biggest process  pid 9 mysqld (www-data), 7.9 MiB 1.0 s before: /usr/sbin/mysqld -k start
      biggest by name  1 × mysqld = 7.9 MiB 1.0 s before
    ");
}

#[tokio::test]
async fn a_summary_says_how_many_processes_it_leaves_out() {
    let samples = samples(all_sources());
    let disk = disk(&[&samples]);
    let one_more = "further processes not listed: 1; --top 0 lists all\n";
    for (top, lines, expected) in [("--top 1", 1, one_more), ("--top 2", 2, ""), ("", 2, "")] {
        let line = format!("cpu-log --since start --summary --output json {top}");
        let (result, data, talk) = typed(disk.path(), &line).await;
        result.unwrap();
        assert_eq!((data.lines().count(), talk.as_str()), (lines, expected), "{top}");
    }
}

#[tokio::test]
async fn only_losses_precede_the_error_that_no_process_matches() {
    let mut late = samples(all_sources());
    late[..5].iter_mut().for_each(|sample| sample.processes.retain(|process| process.identity.pid == 7));
    let late = disk(&[&late[..5], &late[5..]]);
    let samples = samples(all_sources());
    let disk = disk(&[&samples[..5], &samples[5..]]);
    for selection in ["--user nobodyx", "--unit nosuch", "--command nosuch", "--pid 999"] {
        for form in ["text --header", "json", "csv"] {
            let line = format!("cpu-log --since start {selection} --output {form}");
            let (result, data, talk) = typed(disk.path(), &line).await;
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with("no process in that time matches --"), "{line}: {error}");
            assert_eq!((data.as_str(), talk.as_str()), ("", ""), "{line}");
        }
    }
    // The first process that matches is in the second block.
    let shown = timeless(late.path(), "cpu-log --since start --columns pid --command mysqld").await;
    assert!(shown.starts_with("# run db-1-x7k2m9 apply by ada started\n"), "{shown}");
    let file = disk.path().join(format!("{:020}.blocks", 1));
    let mut bytes = fs::read(&file).unwrap();
    bytes.truncate(bytes.len() - 10);
    fs::write(&file, bytes).unwrap();
    let (result, data, _) = typed(disk.path(), "cpu-log --since start --user nobodyx").await;
    assert!(result.is_err() && data.lines().count() == 1 && data.contains("cut short"), "{data}");
}

#[tokio::test]
async fn a_kill_is_found_although_the_sample_that_shows_it_is_in_a_block_after_the_window() {
    for sources in [Sources::default(), all_sources()] {
        let mut samples = samples(sources);
        for event in &mut samples[5].events {
            event.at_ns -= 650_000_000;
        }
        for exit in &mut samples[5].exits {
            exit.at_ns -= 650_000_000;
        }
        let disk = disk(&[&samples[..5], &samples[5..]]);
        let window = "--since 2011-07-13T00:12:04Z --until 2011-07-13T00:12:04.900Z";
        let kill = shown(disk.path(), &format!("oom --output json {window}")).await;
        let kill: serde_json::Value = serde_json::from_str(&kill).unwrap();
        let (at, earliest) = match sources.has(Sources::KERNEL_LOG) {
            true => ("2011-07-13T00:12:04.35Z", serde_json::Value::Null),
            false => ("2011-07-13T00:12:05Z", "2011-07-13T00:12:04Z".into()),
        };
        assert_eq!((&kill["at"], &kill["earliest_at"]), (&at.into(), &earliest), "{kill}");
        let exits = shown(disk.path(), &format!("exits {window}")).await;
        assert_eq!(exits.lines().count(), usize::from(sources.has(Sources::EXITS)), "{exits}");
    }
}

#[tokio::test]
async fn without_a_kernel_log_a_kill_at_the_start_of_a_block_is_inferred() {
    let samples = samples(Sources::default());
    for blocks in [&[&samples[..5], &samples[5..]][..], &[&samples[..]]] {
        let disk = disk(blocks);
        let kill = shown(disk.path(), "oom --output json").await;
        let kill: serde_json::Value = serde_json::from_str(&kill).unwrap();
        assert_eq!((&kill["inferred"], &kill["candidates"][0]["pid"]), (&true.into(), &7.into()), "{kill}");
        assert_eq!(kill["biggest"]["name"], "mysqld");
    }
}

#[tokio::test]
async fn a_block_without_the_process_is_not_a_gap_in_the_record() {
    let mut samples = samples(Sources::default());
    for sample in &mut samples[3..6] {
        sample.processes.retain(|process| process.identity.pid != 7);
    }
    samples[6..].iter_mut().for_each(|sample| sample.processes.insert(0, process(7, "apache2", 6)));
    let disk = disk(&[&samples[..3], &samples[3..6], &samples[6..]]);
    let shown = shown(disk.path(), "cpu-log --since start --pid 7 --output json").await;
    assert!(!shown.contains("gap"), "{shown}");
    assert_eq!(shown.matches("\"pid\":7,").count(), 2 + 3);
}

#[tokio::test]
async fn without_recorded_exits_a_parents_io_is_unknown_whatever_is_selected() {
    let mut samples = samples(Sources::default());
    for (second, sample) in (0..).zip(&mut samples) {
        for process in &mut sample.processes {
            process.parent = if process.identity.pid == 7 { 9 } else { 1 };
            process.read_bytes = Some(0);
            // What 7 wrote until it was killed.
            process.written_bytes = Some(if second < 6 { 0 } else { 200 << 20 });
        }
    }
    let disk = disk(&[&samples]);
    for selection in ["--all", "--pid 9", "--pid 7,9 --sort io"] {
        let line = format!("cpu-log --since start --output csv --columns pid,write {selection}");
        let rows = shown(disk.path(), &line).await;
        let of_parent: Vec<_> = rows.lines().filter_map(|row| row.split_once(",9,")).collect();
        assert_eq!(of_parent.len(), 9, "{rows}");
        assert!(of_parent.iter().all(|(_, written)| written.is_empty()), "{rows}");
    }
    let child = shown(disk.path(), "cpu-log --since start --output csv --columns pid,write --pid 7").await;
    assert_eq!(child.lines().filter(|row| row.ends_with(",7,0")).count(), 4, "{child}");
}

#[tokio::test]
async fn every_error_has_a_hint() {
    let samples = samples(Sources::default());
    let full = disk(&[&samples]);
    let empty = disk(&[]);
    for (disk, line, expected) in [
        (
            &full,
            "cpu-log --since 2011-07-12 --until 2011-07-12T12:00:00Z",
            "there are no samples in that time",
        ),
        (
            &full,
            "exits --since 2011-07-12T00:00:00Z --until 2011-07-12T12:00:00Z",
            "there are no samples in that time",
        ),
        (&empty, "cpu-log", "the record is empty"),
        (&empty, "record info", "the record is empty"),
        (&full, "cpu-log --command a(b", "--command \"a(b\" is not a regular expression: unclosed group"),
        (&full, "oom --output csv", "only cpu-log and exits can print comma-separated values"),
    ] {
        let (result, data, _) = typed(disk.path(), line).await;
        let error = result.unwrap_err();
        assert_eq!((error.to_string().as_str(), data.as_str()), (expected, ""), "{line}");
        assert_eq!((error.kind().exit_code(), error.hints().len()), (2, 1), "{line}");
    }
    // Samples without process exits are not an error.
    let (result, data, talk) = typed(full.path(), "exits --since start").await;
    assert!(result.is_ok());
    let cannot =
        format!("the host whose record is in {} cannot record process exits: ", full.path().display());
    assert_eq!((data.as_str(), talk.starts_with(&cannot)), ("", true), "{talk}");
    assert!(
        talk.ends_with("\nhint: `ctl cpu-log --summary --all` shows when each process was last seen\n"),
        "{talk}"
    );
}

#[test]
fn a_record_is_of_a_host_or_of_a_directory() {
    let parse = |line: &str| Cli::try_parse_from(line.split_whitespace());
    assert!(parse("ctl cpu-log").is_err());
    assert!(parse("ctl cpu-log db-1 --from-dir /tmp").is_err());
    assert!(parse("ctl cpu-log --from-dir /tmp --follow").is_err());
    assert!(parse("ctl cpu-log db-1 --sort memory").is_ok(), "the old name still works");
    // `--as` is the user of the fleet, `--user` a user on the host.
    let cli = parse("ctl --as ada cpu-log db-1 --user www-data --output csv").unwrap();
    assert_eq!((cli.speak_as.as_deref(), cli.output), (Some("ada"), Format::Csv));
}
