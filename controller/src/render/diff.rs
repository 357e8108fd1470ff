//! The unified diff of a file that Puppet changes, taken from Puppet's log.

use proto::pb;

use super::Colour;

/// Maximum number of lines shown per diff.
const LINES: usize = 500;

/// Whether this message is a file diff. Puppet logs it for the resource, before the change, after an empty line.
pub(super) fn is_diff(log: &pb::Log) -> bool {
    let mut lines = log.message.trim_start_matches('\n').lines();
    log.source.starts_with('/')
        && lines.next().is_some_and(|line| line.starts_with("--- "))
        && lines.next().is_some_and(|line| line.starts_with("+++ "))
}

/// The diff's lines and colours, without the two file names: the second is a temporary file.
pub(super) fn lines(message: &str) -> impl Iterator<Item = (Colour, String)> {
    let lines = || message.trim_start_matches('\n').lines().skip(2);
    let shown = lines().take(LINES).map(|line| (colour(line), line.to_owned()));
    let left_out = lines().skip(LINES).count();
    let rest = (left_out > 0).then(|| {
        (Colour::None, format!("… {left_out} more lines of this diff; `--output json` has all of it"))
    });
    shown.chain(rest)
}

fn colour(line: &str) -> Colour {
    match line.as_bytes().first() {
        Some(b'+') => Colour::Green,
        Some(b'-') => Colour::Red,
        Some(b'@') => Colour::Cyan,
        _ => Colour::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str =
        "\n--- /etc/motd\t2026-11-29\n+++ /tmp/puppet-file20261129-1\t2026-11-29\n@@ -1 +1 @@\n-old\n+new\n";

    #[test]
    fn a_diff_is_recognized_by_its_header_and_shown_without_it() {
        let log = |source: &str, message: &str| pb::Log {
            source: source.into(),
            message: message.into(),
            ..pb::Log::default()
        };
        assert!(is_diff(&log("/Stage[main]/Main/File[/etc/motd]/content", DIFF)));
        assert!(!is_diff(&log("Puppet", DIFF)));
        for other in ["", "\n", "--- a", "--- a\nb", "content changed"] {
            assert!(!is_diff(&log("/Stage[main]/Main/File[/etc/motd]/content", other)), "{other:?}");
        }
        let shown: Vec<String> = lines(DIFF).map(|(_, line)| line).collect();
        assert_eq!(shown, ["@@ -1 +1 @@", "-old", "+new"]);
    }

    #[test]
    fn a_long_diff_reports_omitted_lines() {
        let long = format!("{DIFF}{}", "+x\n".repeat(LINES));
        let shown: Vec<String> = lines(&long).map(|(_, line)| line).collect();
        assert_eq!(shown.len(), LINES + 1);
        assert_eq!(shown[LINES], "… 3 more lines of this diff; `--output json` has all of it");
    }
}
