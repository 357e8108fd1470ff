//! File names of a record. The name alone decides whether a file is a segment.

use std::path::{Path, PathBuf};

/// Names of the two tails, which are used in turn.
pub const TAILS: [&str; 2] = ["tail.a", "tail.b"];

/// Suffix of a segment's name, which starts with the number of the segment's first sample.
pub const SUFFIX: &str = ".blocks";

/// Digits of that number: enough for the largest one, so that names sort like numbers.
const DIGITS: usize = 20;

/// Path of the segment whose first sample has this number.
pub fn segment_path(directory: &Path, first_sequence: u64) -> PathBuf {
    directory.join(format!("{first_sequence:0DIGITS$}{SUFFIX}"))
}

/// Number of a segment's first sample; `None` if the path is not that of a segment.
pub(super) fn first_sequence(path: &Path) -> Option<u64> {
    let number = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    let digits = number.len() == DIGITS && number.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| number.parse().ok()).flatten()
}

/// Whether a file with this name is a segment or a tail.
pub fn holds_samples(path: &Path) -> bool {
    first_sequence(path).is_some() || TAILS.iter().any(|name| path.ends_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_recognized_by_its_name() {
        for number in [0, 7, u64::MAX] {
            assert_eq!(first_sequence(&segment_path(Path::new("history"), number)), Some(number));
        }
        let others = ["7.blocks", "+0000000000000000007.blocks", "99999999999999999999.blocks", "lock", ""];
        assert!(others.iter().all(|name| first_sequence(Path::new(name)).is_none()));
        assert!(holds_samples(Path::new("history/tail.b")) && !holds_samples(Path::new("history/tail.c")));
    }
}
