//! A spool is read in order and up to its first damage, can be entered at every event, and can be written again.
#![no_main]

use std::{fs, path::Path, sync::LazyLock};

use agent::run::spool::{Reader, Writer, latest};
use fuzz::{foreign, pieces};
use libfuzzer_sys::fuzz_target;
use proto::pb;
use tempfile::TempDir;

static EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    use pb::event::What;
    let whats = [
        What::State(pb::RunState::Running.into()),
        What::Progress(pb::Progress { index: 1, total: 2, resource: "File[/etc/motd]".to_owned() }),
        What::Output(pb::Output { fd: 1, data: b"done\n".to_vec() }),
        What::Summary(pb::Summary { total: 2, ..pb::Summary::default() }),
    ];
    let events = whats.map(|what| pb::Event { what: Some(what), time_unix_ms: 1, ..pb::Event::default() });
    vec![written(&events)]
});

fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").expect("memory")
}

fn written(events: &[pb::Event]) -> Vec<u8> {
    let directory = directory();
    let path = directory.path().join("written");
    let mut writer = Writer::create(&path, u64::MAX).expect("memory");
    for event in events {
        if let Some(what) = event.what.clone() {
            writer.append(event.time_unix_ms, what).expect("memory");
        }
    }
    fs::read(&path).expect("it was just written")
}

/// A spool with right lengths and checksums.
fn framed(data: &[u8]) -> Vec<u8> {
    let mut file = written(&[]);
    for piece in pieces(data) {
        file.extend((piece.len() as u32).to_le_bytes());
        file.extend(crc32c::crc32c(piece).to_le_bytes());
        file.extend(piece);
    }
    file
}

fn read(path: &Path, offset: u64) -> Vec<pb::Event> {
    let mut reader = Reader::open(path, offset).expect("it is there");
    let events: Vec<_> = std::iter::from_fn(|| reader.next().expect("memory")).collect();
    assert_eq!(reader.next().expect("memory"), None, "an end that is none");
    assert_eq!(reader.offset(), events.last().map_or_else(|| offset.max(8), |event| event.next_offset));
    events
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    let file = if mode & 1 == 1 { framed(data) } else { foreign(&EXAMPLES, data) };
    let directory = directory();
    let path = directory.path().join("read");
    fs::write(&path, &file).expect("memory");
    let mut events = read(&path, 0);
    assert!(events.is_sorted_by(|a, b| a.next_offset < b.next_offset));
    assert!(events.last().is_none_or(|last| last.next_offset <= file.len() as u64));
    for (at, event) in events.iter().enumerate().take(4) {
        assert_eq!(read(&path, event.next_offset), events[at + 1..]);
    }
    latest(&path).expect("it is there");

    events.retain(|event| event.what.is_some());
    fs::write(&path, written(&events)).expect("memory");
    let again = read(&path, 0);
    let same = |(a, b): (&pb::Event, &pb::Event)| a.time_unix_ms == b.time_unix_ms && a.what == b.what;
    assert!(again.len() == events.len() && again.iter().zip(&events).all(same));
});
