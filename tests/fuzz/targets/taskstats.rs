//! A datagram holds no more exit messages than fit into it.
#![no_main]

use recorder::exits::count_notices;
use fuzz::foreign;
use libfuzzer_sys::fuzz_target;

const FAMILY: u16 = 31;

/// An attribute: length, kind, value, padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A message of a process with threads: the last of them, and all.
fn message() -> Vec<u8> {
    let mut stats = vec![1; 560];
    stats[..2].copy_from_slice(&16u16.to_ne_bytes());
    let aggregate =
        |kind, id| attribute(kind, &[attribute(id, &7u32.to_ne_bytes()), attribute(3, &stats)].concat());
    let body = [vec![2, 1, 0, 0], aggregate(4, 1), aggregate(5, 2)].concat();
    let mut message = ((16 + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(FAMILY.to_ne_bytes());
    message.extend([0; 10]);
    message.extend(body);
    message
}

fuzz_target!(|data: &[u8]| {
    let bytes = foreign(&[message()], data);
    // A message has a header, an aggregate, an id and the first fields of a structure.
    assert!(count_notices(&bytes, FAMILY) <= bytes.len() / 168);
});
