//! Helpers to parse the kernel's text files.

use crate::number::number;

/// Lines, without line breaks.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n')
}

/// Words of a line.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// Lines with a name, an optional colon, and a number.
pub(crate) fn keyed(bytes: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    lines(bytes).filter_map(|line| {
        let mut words = words(line);
        let key = words.next()?;
        Some((key.strip_suffix(b":").unwrap_or(key), number(words.next()?)?))
    })
}

/// The number behind a name.
pub(crate) fn value(bytes: &[u8], name: &[u8]) -> Option<u64> {
    keyed(bytes).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The number in a file with a single number.
pub(crate) fn single(bytes: &[u8]) -> Option<u64> {
    number(bytes.trim_ascii())
}

/// The total on one line of a pressure file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=12345`.
pub(crate) fn pressure(bytes: &[u8], kind: &[u8]) -> Option<u64> {
    let line = lines(bytes).find(|line| words(line).next() == Some(kind))?;
    words(line).find_map(|word| number(word.strip_prefix(b"total=")?))
}

/// A number of bytes in KiB; `None` for `max`.
pub(crate) fn kib(bytes: &[u8]) -> Option<u64> {
    single(bytes).map(|bytes| bytes / 1024)
}

/// A limit of memory in version 1 of control groups, in KiB; "no limit" is a huge number there (PAGE_COUNTER_MAX).
pub(crate) fn limit_kib(bytes: &[u8]) -> Option<u64> {
    kib(bytes).filter(|limit| *limit < 1 << 50)
}
