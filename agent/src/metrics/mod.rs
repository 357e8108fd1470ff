//! The answer to `GET /metrics`: the newest sample and the last minute of the record in OpenMetrics format. Raw counters stay
//! counters. The number of series is limited, whatever runs on the host.

mod groups;
mod host;
mod text;

use std::path::Path;

use record::{Block, Damage, Exit, Sample};

use self::text::Text;
use record::directory::{self, Filter, Reader};

/// Content type of the answer (OpenMetrics 1.0).
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Period for the CPU usage of groups, ms.
const MINUTE_MS: i64 = 60_000;

/// The last minute of a record.
#[derive(Clone, Debug, Default)]
struct Minute {
    first: Sample,
    last: Sample,
    /// Process exits between the two samples.
    exits: Vec<Exit>,
}

/// Renders the metrics of the record in `directory`. Without samples, only whether the recorder runs and the agent's version.
///
/// # Errors
/// If the record exists but cannot be read.
pub(crate) fn render(directory: &Path) -> Result<String, directory::Error> {
    let status = directory::status(directory)?;
    let mut text = Text::default();
    text.gauge("magpie_recorder_up", "Whether the flight recorder is running")
        .value(&[], f64::from(u8::from(status.running)));
    text.info("magpie_agent", "The agent", &[("version", env!("CARGO_PKG_VERSION"))]);
    if let Some(newest) = status.newest {
        let minute = minute(directory, newest)?;
        host::write(&minute.last, &mut text);
        groups::write(&minute, &mut text);
    }
    Ok(text.finish())
}

/// Reads the minute before the newest sample, without unreadable parts.
fn minute(directory: &Path, newest: Sample) -> Result<Minute, directory::Error> {
    let mut first = None;
    let mut exits = Vec::new();
    let filter = Filter::between(newest.wall_ms - MINUTE_MS, i64::MAX);
    for block in Reader::new(directory).blocks(filter)? {
        let _: Result<(), Damage> = add(&block.data, &newest, &mut first, &mut exits);
    }
    Ok(Minute { first: first.unwrap_or_else(|| newest.clone()), last: newest, exits })
}

fn add(
    data: &[u8],
    newest: &Sample,
    first: &mut Option<Sample>,
    exits: &mut Vec<Exit>,
) -> Result<(), Damage> {
    let mut samples = Block::parse(data)?.samples()?;
    while let Some(sample) = samples.advance() {
        let sample = sample?;
        let inside = sample.boot_id == newest.boot_id
            && sample.boottime_ns <= newest.boottime_ns
            && newest.boottime_ns - sample.boottime_ns <= MINUTE_MS as u64 * 1_000_000;
        match first {
            _ if !inside => {}
            None => *first = Some(sample.clone()),
            Some(_) => exits.extend_from_slice(&sample.exits),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use record::{BootId, Encoder, HostCounters, Identity, Process, Sources};

    use super::*;
    use record::directory::{Policy, Writer};

    fn worker(pid: u32, comm: &str, cpu_ms: u64, anon_kib: u64) -> Process {
        Process {
            comm: comm.into(),
            user_us: cpu_ms * 1_000,
            resident_kib: anon_kib + 100,
            anon_kib: Some(anon_kib),
            swap_kib: Some(0),
            ..Process::bare(Identity { pid, started_ns: 10_000_000 })
        }
    }

    fn sample(second: u64, processes: Vec<Process>) -> Sample {
        let host = HostCounters {
            memory_total_kib: Some(1_000),
            cpu_user_ns: Some(second * 1_500_000_000),
            pressure_memory_full_us: Some(250_000),
            ..HostCounters::default()
        };
        Sample {
            wall_ms: second as i64 * 1_000,
            boottime_ns: second * 1_000_000_000,
            interval_ms: 1_000,
            host,
            processes,
            ..Sample::default()
        }
    }

    fn rendered(samples: &[Sample]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let policy = Policy::default();
        let (mut writer, _) = Writer::open(directory.path(), BootId::default(), 0, policy).unwrap();
        let mut encoder = Encoder::new(policy.block);
        for sample in samples {
            let mut record = Vec::new();
            encoder.encode(sample, &mut record);
            writer.append(&record).unwrap();
        }
        render(directory.path()).unwrap()
    }

    #[test]
    fn counters_and_groups_are_rendered() {
        let before = sample(100, vec![worker(1, "apache2", 0, 30_000), worker(2, "apache2", 500, 30_000)]);
        let mut after =
            sample(110, vec![worker(1, "apache2", 4_000, 35_000), worker(2, "apache2", 1_500, 35_000)]);
        after.exits.push(Exit {
            identity: Identity { pid: 3, started_ns: 105_000_000_000 },
            parent: 1,
            uid: 0,
            comm: "sh\n\"x\\".into(),
            at_ns: 106_000_000_000,
            lived_us: 1_000_000,
            user_us: 1_000_000,
            system_us: 0,
            peak_kib: 500,
            status: 0,
            major_faults: 0,
            read_bytes: 0,
            written_bytes: 0,
        });
        let text = rendered(&[before, after]);
        for line in [
            "# TYPE magpie_cpu_seconds counter",
            "magpie_cpu_seconds_total{mode=\"user\"} 165",
            "magpie_memory_bytes{kind=\"total\"} 1024000",
            "magpie_pressure_seconds_total{resource=\"memory\",share=\"full\"} 0.25",
            "magpie_group_processes{group=\"apache2\"} 2",
            "magpie_group_footprint_bytes{group=\"apache2\"} 71680000",
            "magpie_group_cpus{group=\"apache2\"} 0.5",
            "magpie_group_cpus{group=\"sh\\n\\\"x\\\\\"} 0.1",
            "magpie_recorder_up 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_part_of_a_machine_has_its_own_memory_and_machine_metrics_have_other_names() {
        let mut part = sample(100, vec![worker(1, "apache2", 0, 500)]);
        part.sources = Sources::PART_OF_MACHINE;
        part.host.memory_total_kib = Some(24_000_000);
        part.host.memory_available_kib = Some(23_000_000);
        part.host.cgroup_limit_kib = Some(1_000);
        let text = rendered(&[part]);
        for line in [
            "magpie_memory_bytes{kind=\"total\"} 1024000",
            "magpie_memory_bytes{kind=\"available\"} 512000",
            "magpie_memory_bytes{kind=\"used\"} 512000",
            "magpie_machine_memory_bytes{kind=\"total\"} 24576000000",
            "# HELP magpie_machine_cpu_seconds CPU time of all CPUs, of the whole machine",
            "magpie_machine_cpu_seconds_total{mode=\"user\"} 150",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("magpie_cpu_seconds"), "{text}");
    }

    #[test]
    fn the_number_of_groups_is_limited() {
        let many =
            (0..5_000).map(|pid| worker(pid, &format!("worker-{pid}"), 0, 10 + u64::from(pid))).collect();
        let text = rendered(&[sample(100, many)]);
        let groups = text.lines().filter(|line| line.starts_with("magpie_group_processes{")).count();
        assert_eq!(groups, groups::MOST + 1);
        assert!(text.contains("magpie_group_processes{group=\"(other)\"} 4980\n"), "{text}");
    }

    #[test]
    fn an_empty_record_shows_that_the_recorder_is_down() {
        let directory = tempfile::tempdir().unwrap();
        let text = render(&directory.path().join("missing")).unwrap();
        assert!(text.contains("magpie_recorder_up 0\n") && text.ends_with("# EOF\n"), "{text}");
    }
}
