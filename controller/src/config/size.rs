//! Parses sizes such as 613M.

use proto::units::size;

/// The least memory limit of a host, in bytes: below it, systemd or the agent is killed during the boot.
const LEAST_MEMORY: u64 = 32 << 20;

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

/// Parses a memory limit of a host, which must be enough to boot.
pub fn parse_memory(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    if bytes >= LEAST_MEMORY {
        return Ok(bytes);
    }
    let is_enough = |text: &String| parse_size(text).is_ok_and(|bytes| bytes >= LEAST_MEMORY);
    let meant = ["M", "G"].map(|unit| format!("{text}{unit}")).into_iter().filter(is_enough);
    let questions: Vec<_> = meant.map(|text| format!("{text}?")).collect();
    let hint = if questions.is_empty() { String::new() } else { format!("; {}", questions.join(" ")) };
    let (found, least) = (size(bytes), size(LEAST_MEMORY));
    Err(format!("{found} is too little: a host needs {least} to boot, and about 128 MiB to run Puppet{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_limit_is_enough_to_boot() {
        assert_eq!(parse_memory("32M"), Ok(32 << 20));
        assert_eq!(parse_memory("33554432"), Ok(32 << 20));
        let refused = |text| parse_memory(text).expect_err("too little");
        let why = "is too little: a host needs 32 MiB to boot, and about 128 MiB to run Puppet";
        assert_eq!(refused("5"), format!("5 B {why}; 5G?"));
        assert_eq!(refused("512"), format!("512 B {why}; 512M? 512G?"));
        assert_eq!(refused("31M"), format!("31 MiB {why}"));
        assert_eq!(refused("5K"), format!("5.0 KiB {why}"));
        assert_eq!(refused("lots"), parse_size("lots").expect_err("not a size"));
    }

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
