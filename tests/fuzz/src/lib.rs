//! What the targets share: inputs that are nearly valid.

/// Bytes as a peer or a disk might give them, made from what the fuzzer says.
///
/// The first byte picks an example, or none: then the rest is the input as it is. Otherwise the rest is a list of
/// edits, each `at u16 · dropped u8 · added u8 · the added bytes`; without any, the example comes back whole.
pub fn foreign(examples: &[Vec<u8>], data: &[u8]) -> Vec<u8> {
    let Some((&choice, mut edits)) = data.split_first() else { return Vec::new() };
    let Some(example) = examples.get(usize::from(choice) % (examples.len() + 1)) else {
        return edits.to_vec();
    };
    let mut bytes = example.clone();
    while let Some(([low, high, dropped, added], rest)) = edits.split_first_chunk() {
        let at = usize::from(u16::from_le_bytes([*low, *high])).min(bytes.len());
        let end = at.saturating_add((*dropped).into()).min(bytes.len());
        let (new, rest) = rest.split_at(rest.len().min((*added).into()));
        bytes.splice(at..end, new.iter().copied());
        edits = rest;
    }
    bytes
}

/// Cuts `data` into pieces, each behind its length as a u16; the last may be shorter than it says.
pub fn pieces(mut data: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let (piece, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
        pieces.push(piece);
        data = rest;
    }
    pieces
}

/// Two samples of one boot, the second with a process more, one less and one that worked.
pub fn samples() -> Vec<record::Sample> {
    use record::{Identity, Process, Sample};
    let process = |pid| Process {
        comm: "apache2".into(),
        command: Some("/usr/sbin/apache2 -k start".into()),
        user: Some("www-data".into()),
        ..Process::bare(Identity { pid, started_ns: 10_000_000 })
    };
    let first = Sample { wall_ms: 1_000, processes: vec![process(1), process(2)], ..Sample::default() };
    let mut second = Sample { wall_ms: 2_000, processes: vec![process(2), process(3)], ..first.clone() };
    second.host.cpus = Some(2);
    second.processes[0].user_us = 20_000;
    vec![first, second]
}
