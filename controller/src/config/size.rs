//! Parses sizes such as 613M.

/// Parses `613M`, `2G`, `1048576` into bytes; suffixes are powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size such as 613M or 2G");
    let (digits, shift) = match text.trim_end_matches("iB").trim_end_matches('B') {
        t if t.ends_with(['K', 'k']) => (&t[..t.len() - 1], 10),
        t if t.ends_with(['M', 'm']) => (&t[..t.len() - 1], 20),
        t if t.ends_with(['G', 'g']) => (&t[..t.len() - 1], 30),
        t => (t, 0),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("613M"), Ok(613 << 20));
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        assert_eq!(parse_size("4096"), Ok(4096));
        for wrong in ["", "0", "-1M", "1.5G", "M", "99999999999G", "ten"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
