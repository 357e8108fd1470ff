//! The compared recorders: how to start each, and how to read what it has stored so far.

use std::{
    fs,
    path::{Path, PathBuf},
};

use agent::paths::Paths;
use record::Block;
use record::directory::{Filter, Reader};
use tests::{binary, repository, target_dir};

use crate::Result;

/// Number of samples between two complete ones of `below` with a dictionary: fewer samples say nothing about its size.
pub(crate) const BELOW_CHUNK: u64 = 16;

/// Number of samples before the measurement begins.
const WARM_UP: u64 = 2;

/// Magpie reads command lines separately from samples, at most a thousand between two samples.
const DETAILS_A_SECOND: u64 = 500;

/// Size of one sample in the index of below, in bytes (IndexEntry in its store crate).
const BELOW_ENTRY: u64 = 32;

/// Valid times of atop's samples, seconds since the Unix epoch: this century. Other values are not times.
const ATOP_TIMES: std::ops::Range<usize> = 946_684_800..4_102_444_800;

/// One recorder.
pub(crate) struct Recorder {
    /// Name of the row.
    pub(crate) name: &'static str,
    /// Shell command that starts the recorder; `$0` is its output directory.
    pub(crate) line: String,
    /// Number of samples until all startup work is done.
    pub(crate) warm_up: u64,
    /// Kind of store in that directory.
    pub(crate) store: Store,
    /// Time needed to see all costs, in seconds.
    pub(crate) period: u64,
}

/// Kinds of stores.
#[derive(Clone, Copy)]
pub(crate) enum Store {
    /// Text on standard output, with this line once per sample.
    Text(fn(&str) -> bool),
    /// atop's raw log.
    Atop,
    /// Shards of below.
    Below,
    /// Magpie's record.
    Magpie,
}

/// Contents of a store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Number of samples.
    pub(crate) samples: u64,
    /// Size in bytes, if samples are stored in their final form at once.
    pub(crate) bytes: Option<u64>,
}

/// Magpie's recorder with each collector, for this many processes.
pub(crate) fn ours(processes: usize) -> Result<Vec<Recorder>> {
    let agent = binary("agent");
    let unit = fs::read_to_string(repository("deploy/systemd/magpie-record.service"))?;
    let environment =
        unit.lines().filter_map(|line| line.strip_prefix("Environment=")).collect::<Vec<_>>().join(" ");
    let recorder = |name, collector: &str| Recorder {
        name,
        line: format!(
            "exec env {environment} {} record --root \"$0\" --collector {collector}",
            agent.display()
        ),
        warm_up: WARM_UP + processes as u64 / DETAILS_A_SECOND,
        store: Store::Magpie,
        period: 1,
    };
    Ok(vec![recorder("magpie, BPF", "bpf"), recorder("magpie, /proc", "proc")])
}

/// Other recorders in common use.
pub(crate) fn peers() -> Vec<Recorder> {
    // `sleep` starts first, so that the time of a sample does not add to the interval.
    let ps = "while :; do sleep 1 & date '+at %F %T'; ps aux | sort -nrk 3,3; wait; done";
    let below = |compress: &str| {
        format!(
            "printf '%s\\n' \"log_dir = '$0/log'\" \"store_dir = '$0/store'\" \"cgroup_root = '{}'\" >\"$0/below.conf\" && \
             exec {} --config \"$0/below.conf\" record --interval-s 1 --retain-for-s 3600 {compress}",
            crate::meter::hierarchy().unwrap_or_default().display(),
            below_program().display()
        )
    };
    let peer = |name, line: String, store, period| Recorder { name, line, warm_up: WARM_UP, store, period };
    vec![
        peer("ps aux \\| sort", ps.to_owned(), Store::Text(|line| line.starts_with("at ")), 1),
        peer(
            "pidstat -u -r -l",
            "exec pidstat -u -r -l -p ALL 1".to_owned(),
            Store::Text(|line| line.contains(" %usr ")),
            1,
        ),
        peer("atop -w", "exec atop -w \"$0/raw\" 1".to_owned(), Store::Atop, 1),
        peer("below, zstd", below("--compress"), Store::Below, 1),
        peer(
            "below, zstd dictionary",
            below(&format!("--compress --dict-compress-chunk-size {BELOW_CHUNK}")),
            Store::Below,
            BELOW_CHUNK,
        ),
    ]
}

impl Recorder {
    /// Whether the program is installed; the shell always is.
    pub(crate) fn is_installed(&self) -> bool {
        let in_path = |name: &str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
        };
        match self.store {
            Store::Text(_) => in_path("ps") && in_path("pidstat"),
            Store::Atop => in_path("atop"),
            Store::Below => below_program().is_file(),
            Store::Magpie => true,
        }
    }
}

/// Where `make bench` builds below.
fn below_program() -> PathBuf {
    target_dir().join("../tools/bin/below")
}

impl Store {
    /// Reads the current contents of `directory`.
    pub(crate) fn tally(self, directory: &Path) -> Result<Tally> {
        let (samples, bytes) = match self {
            Self::Text(is_head) => {
                let text = fs::read(directory.join("output"))?;
                let samples = String::from_utf8_lossy(&text).lines().filter(|line| is_head(line)).count();
                (samples as u64, Some(text.len() as u64))
            }
            Self::Atop => {
                let log = fs::read(directory.join("raw")).unwrap_or_default();
                (atop_samples(&log)?, Some(log.len() as u64))
            }
            Self::Below => {
                let store = directory.join("store");
                let index = bytes_of(&store, "index_")?;
                (index / BELOW_ENTRY, Some(index + bytes_of(&store, "data_")?))
            }
            Self::Magpie => (samples_of(&Paths::new(directory).history())?, None),
        };
        Ok(Tally { samples, bytes })
    }
}

/// Number of samples in a raw log of atop: its header has its own length and that of a record's head; each head has the
/// lengths of the two compressed parts after it (atop's rawlog.h).
fn atop_samples(log: &[u8]) -> Result<u64> {
    let number = |at: usize, width: usize| -> Option<usize> {
        let bytes = log.get(at..at + width)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let (Some(magic), Some(mut at), Some(head)) = (number(0, 4), number(10, 2), number(12, 2)) else {
        return Ok(0);
    };
    let mut samples = 0;
    while let (Some(time), Some(system), Some(processes)) =
        (number(at, 8), number(at + 16, 4), number(at + 20, 4))
    {
        if magic != 0xfeed_beef || !ATOP_TIMES.contains(&time) {
            return Err("this version of atop writes another format than is known here".into());
        }
        at += head + system + processes;
        samples += u64::from(at <= log.len());
    }
    Ok(samples)
}

/// Number of samples in a record.
fn samples_of(history: &Path) -> Result<u64> {
    let mut samples = 0;
    for stored in Reader::new(history).blocks(Filter::default())? {
        let data = stored.data;
        if !data.is_empty() {
            samples += u64::from(Block::parse(&data)?.header.records);
        }
    }
    Ok(samples)
}

/// Total size of the files in `directory` whose names begin with this prefix.
fn bytes_of(directory: &Path, prefix: &str) -> Result<u64> {
    Ok(files(directory, prefix)?.filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum())
}

/// The files of a directory; none if it does not exist yet.
fn files(directory: &Path, prefix: &str) -> Result<impl Iterator<Item = PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries.collect::<std::io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let named =
        entries.into_iter().filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix));
    Ok(named.map(|entry| entry.path()).collect::<Vec<_>>().into_iter())
}
