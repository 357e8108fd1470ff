//! Time that `ctl` needs to answer queries from a day of one sample per second, on the disk of a dead host.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use agent::paths::Paths;
use record::Encoder;
use record::directory::{Policy, Writer};
use tests::binary;

use crate::{
    Result,
    day::{Day, SECONDS},
};

/// Runs of each query; the report shows the median.
pub(crate) const REPEATS: usize = 5;

/// One query.
pub(crate) struct Query {
    /// Description.
    pub(crate) name: &'static str,
    /// Arguments after `ctl cpu-log --from-dir DIR`.
    pub(crate) arguments: Vec<String>,
    /// Time limit, in seconds.
    pub(crate) goal: f64,
}

/// Results.
pub(crate) struct Answers {
    /// Number of samples in the store.
    pub(crate) samples: u64,
    /// Size of the store, in bytes.
    pub(crate) bytes: u64,
    /// Time to write the store, in seconds.
    pub(crate) written_seconds: f64,
    /// Each query with its answers, or the reason why there are none.
    pub(crate) queries: Vec<(Query, std::result::Result<Answered, String>)>,
}

/// Results of one query.
pub(crate) struct Answered {
    /// Duration of each run, in seconds.
    pub(crate) times: Vec<f64>,
    /// Number of lines printed.
    pub(crate) lines: usize,
}

/// Writes a store with this many seconds of the day into `directory`, and runs the queries.
pub(crate) fn ask(directory: &Path, seconds: u64) -> Result<Answers> {
    let begun = Instant::now();
    let pid = write(directory, seconds)?;
    let written_seconds = begun.elapsed().as_secs_f64();
    let queries = questions(pid, seconds).into_iter().map(|query| {
        let answer = repeat(directory, &query).map_err(|error| error.to_string());
        (query, answer)
    });
    let queries = queries.collect();
    let files = fs::read_dir(history(directory))?.flatten();
    let bytes = files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
    Ok(Answers { samples: seconds, bytes, written_seconds, queries })
}

/// The record's directory of an agent with its files below `directory`.
fn history(directory: &Path) -> PathBuf {
    Paths::new(directory).history()
}

/// Writes the store; returns the pid of a process that lives through the day.
///
/// The writer syncs each sample, which is not measured here: it writes to a file system in memory, and the files are
/// copied.
pub(crate) fn write(directory: &Path, seconds: u64) -> Result<u32> {
    let memory = tempfile::Builder::new().prefix("magpie-bench-").tempdir_in("/dev/shm")?;
    let policy = Policy { max_bytes: u64::MAX, ..Policy::default() };
    let mut day = Day::new();
    let mut encoder = Encoder::new(policy.block);
    let first = day.next().clone();
    let (mut writer, _) = Writer::open(memory.path(), first.boot_id, first.wall_ms, policy)?;
    let mut record = Vec::new();
    encoder.encode(&first, &mut record);
    writer.append(&record)?;
    for _ in 1..seconds {
        record.clear();
        encoder.encode(day.next(), &mut record);
        writer.append(&record)?;
    }
    drop(writer);
    fs::create_dir_all(history(directory))?;
    for file in fs::read_dir(memory.path())?.flatten() {
        fs::copy(file.path(), history(directory).join(file.file_name()))?;
    }
    let long_lived = first.processes.iter().find(|process| &*process.comm == "java");
    Ok(long_lived.ok_or("the day has no process that lasts")?.identity.pid)
}

fn questions(pid: u32, seconds: u64) -> Vec<Query> {
    let at = |second: u64| {
        let second = second.min(seconds);
        format!("2026-07-13T{:02}:{:02}:{:02}Z", second / 3_600 % 24, second / 60 % 60, second % 60)
    };
    let query = |name, arguments: &str, from, until, goal| {
        let words = arguments.split(' ').map(str::to_owned);
        let arguments =
            words.chain(["--since".to_owned(), at(from), "--until".to_owned(), at(until)]).collect();
        Query { name, arguments, goal }
    };
    // The last second of the day: midnight would be the first of it.
    let end = SECONDS - 1;
    let noon = if seconds > 13 * 3_600 { 12 * 3_600 } else { 0 };
    vec![
        query("one hour, ten processes a sample", "--top 10", noon, noon + 3_600, 0.3),
        query("top by footprint over the day", "--summary --sort footprint --top 10", 0, end, 1.5),
        query("one process over the day", &format!("--pid {pid}"), 0, end, 0.3),
    ]
}

/// Runs a query several times; returns the times and the number of lines.
fn repeat(directory: &Path, query: &Query) -> Result<Answered> {
    let (mut times, mut lines) = (Vec::new(), 0);
    for _ in 0..REPEATS {
        let begun = Instant::now();
        lines = asked(directory, query)?;
        times.push(begun.elapsed().as_secs_f64());
    }
    Ok(Answered { times, lines })
}

/// Runs a query once; returns the number of lines.
fn asked(directory: &Path, query: &Query) -> Result<usize> {
    let output = Command::new(binary("ctl"))
        .args(["cpu-log", "--from-dir"])
        .arg(history(directory))
        .args(&query.arguments)
        .env_remove("MAGPIE_CONFIG")
        .stdin(Stdio::null())
        .output()?;
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    if output.status.success() && lines > 0 {
        return Ok(lines);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "`ctl cpu-log {}` printed {lines} lines, {}: {said}",
        query.arguments.join(" "),
        output.status
    )
    .into())
}
