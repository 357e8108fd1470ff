//! Sizes and counts as text, alike in the agent's sentences and in `ctl`'s tables.

/// `512 B`, `38 MiB`, `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    // What rounds up to 1024 is 1.0 of the next unit.
    while value >= 1_023.5 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1_024.0, unit + 1);
    }
    let digits = usize::from(unit > 0 && value < 9.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// The same for an amount in KiB, the kernel's unit.
pub fn kib_size(kib: u64) -> String {
    size(kib.saturating_mul(1_024))
}

/// A number with its noun: `1 block`, `288 blocks`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "run")), ["0 runs", "1 run", "2 runs"]);
    }

    #[test]
    fn sizes_are_short_and_rounded() {
        let sizes = [0, 1_023, 1_024, 4_005, 38 << 20, 49_991_808, 3 << 29].map(size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "3.9 KiB", "38 MiB", "48 MiB", "1.5 GiB"]);
        let carried = [10_137, 10_189, 1_048_063, 1_048_064, (1 << 30) - 1, u64::MAX].map(size);
        assert_eq!(carried, ["9.9 KiB", "10 KiB", "1023 KiB", "1.0 MiB", "1.0 GiB", "16777216 TiB"]);
    }
}
