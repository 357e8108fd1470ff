//! Kills the recorder at random moments, repeatedly.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use record::directory::Follower;
use record::{Block, Sample};
use tempfile::TempDir;
use tests::binary;

use crate::{chance::Chance, stored};

/// Timeout for the first sample, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time for a few more samples.
const WHILE_RECORDING: Duration = Duration::from_millis(2500);
/// A kill within this time hits the repair after the previous kill.
const WHILE_STARTING: Duration = Duration::from_millis(50);

#[test]
fn nothing_recorded_is_lost_when_the_recorder_is_killed() {
    kill_again_and_again(10);
}

#[test]
#[ignore = "takes five minutes: make soak"]
fn nothing_recorded_is_lost_when_the_recorder_is_killed_200_times() {
    kill_again_and_again(200);
}

/// Kills one recorder after another. All samples that were readable just before each kill must still be there at the end.
fn kill_again_and_again(times: u32) {
    let root = TempDir::with_prefix("magpie-").expect("a temporary directory");
    let history = root.path().join("history");
    std::fs::create_dir(&history).expect("made");
    let mut chance = Chance::new();
    let mut follower = Follower::new(&history, Some(0)).expect("an empty record can be followed");
    let mut seen = BTreeSet::new();
    for round in 0..times {
        let recorder = Recorder::start(root.path());
        let longest = if round % 2 == 0 {
            wait_for_a_sample(&mut follower, &mut seen);
            WHILE_RECORDING
        } else {
            WHILE_STARTING
        };
        // The moment itself is random: do not wait for an event.
        sleep(chance.within(longest));
        follow(&mut follower, &mut seen);
        recorder.kill();
    }
    follow(&mut follower, &mut seen);
    let kept: BTreeSet<_> = stored::open(&history).iter().map(key).collect();
    let lost = seen.difference(&kept).count();
    println!("killed: {times} kills, {} samples seen, {} kept, {lost} lost", seen.len(), kept.len());
    assert_eq!(lost, 0);
}

/// Identifies a sample: two samples never have the same time.
fn key(sample: &Sample) -> u64 {
    sample.boottime_ns
}

#[track_caller]
fn wait_for_a_sample(follower: &mut Follower, seen: &mut BTreeSet<u64>) {
    let (before, deadline) = (seen.len(), Instant::now() + PATIENCE);
    while seen.len() == before {
        assert!(Instant::now() < deadline, "nothing was recorded in {PATIENCE:?}");
        sleep(Duration::from_millis(10));
        follow(follower, seen);
    }
}

#[track_caller]
fn follow(follower: &mut Follower, seen: &mut BTreeSet<u64>) {
    for block in follower.poll().expect("the record can be followed") {
        assert_eq!(block.lost, Vec::<String>::new());
        let parsed = Block::parse(&block.data).expect("a block");
        seen.extend(parsed.samples().expect("samples").map(|sample| key(&sample.expect("a sample"))));
    }
}

/// A running recorder; dropping it kills it.
struct Recorder(Child);

impl Recorder {
    fn start(root: &Path) -> Self {
        let started = Command::new(binary("agent"))
            .args(["record", "--root"])
            .arg(root)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(started.expect("the recorder starts"))
    }

    #[track_caller]
    fn kill(mut self) {
        let ended = self.0.try_wait().expect("it can be asked for");
        assert!(ended.is_none(), "the recorder ended by itself: {ended:?}");
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
