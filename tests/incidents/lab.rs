//! Makes incidents happen in a virtual machine.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use record::{
    Header,
    directory::{Filter, Reader, segment_path},
};
use tempfile::TempDir;
use tests::{
    binary, repository,
    vm::{Disks, Machine, find},
};

use crate::truth::Truth;

const MEBIBYTE: u64 = 1 << 20;
const BOOT: Duration = Duration::from_secs(90);
const INCIDENT: Duration = Duration::from_secs(600);

/// Names of the culprit.
const NAMES: [&str; 8] =
    ["apache2", "php-fpm", "gunicorn", "sidekiq", "uploadd", "gateway", "indexer", "puma"];

/// What varies from one seed to another.
#[derive(Debug)]
pub(crate) struct Variation {
    pub(crate) name: &'static str,
    size: u64,
    count: u64,
    before_s: u64,
    swap_mib: u64,
}

impl Variation {
    pub(crate) fn of(truth: &Truth, seed: u64) -> Self {
        let mut state = seed;
        for byte in truth.script.bytes() {
            state = mixed(state ^ u64::from(byte));
        }
        let mut within = |(least, most): (u64, u64)| {
            state = mixed(state);
            least + state % (most - least + 1)
        };
        Self {
            name: NAMES[within((0, NAMES.len() as u64 - 1)) as usize],
            size: within(truth.size),
            count: within(truth.count),
            before_s: within((20, 45)),
            swap_mib: [32, 64, 128][within((0, 2)) as usize],
        }
    }
}

/// The next number of a sequence without a pattern (xorshift64*, Vigna 2016).
fn mixed(state: u64) -> u64 {
    let mut state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

/// The programs of the virtual machine.
#[derive(Debug)]
pub(crate) struct Lab {
    programs: Vec<(&'static str, PathBuf)>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let programs = vec![
            ("/usr/lib/magpie/agent", binary("agent")),
            ("/usr/lib/magpie/recorder", binary("recorder")),
            ("/usr/sbin/actor", binary("incident-actor")),
            ("/usr/sbin/chrt", find("chrt")),
        ];
        Self { programs }
    }

    /// Boots a machine, lets the incident happen, cuts the power, and returns the recorder's directory.
    pub(crate) fn record(&self, truth: &Truth, variation: &Variation) -> TempDir {
        let scripts = repository("tests/incidents/scripts");
        let disks = Disks::new(
            &repository("tests/incidents/guest/init"),
            &self.programs,
            Some(("/incidents", &scripts)),
            variation.swap_mib * MEBIBYTE,
        );
        let Variation { name, size, count, before_s, .. } = variation;
        let parameters =
            format!("INCIDENT={} NAME={name} SIZE={size} COUNT={count} BEFORE={before_s}", truth.script);
        let mut machine = Machine::boot(&disks, &parameters);
        machine.wait_for(BOOT, |line| line.starts_with("ready ").then_some(()));
        machine.wait_for(INCIDENT, |line| (line == "over").then_some(()));
        machine.power_cut();
        disks.directory_after_cut("/var/lib/magpie")
    }
}

/// Replaces a recording in the repository: all its blocks in one segment.
pub(crate) fn keep(record: &TempDir, at: &Path, name: &str) {
    let _ = fs::remove_dir_all(at);
    fs::create_dir_all(at).expect("made");
    let blocks =
        Reader::new(&record.path().join("magpie/history")).blocks(Filter::default()).expect("a record");
    let blocks: Vec<Vec<u8>> = blocks.with_sealed_tails().map(|block| block.data).collect();
    let first = blocks.iter().find_map(|block| Header::parse(block).ok()).expect("a block");
    fs::write(segment_path(at, first.first_sequence), blocks.concat()).expect("written");
    fs::write(at.join("name"), format!("{name}\n")).expect("written");
}
