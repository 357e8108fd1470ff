//! Explains why a resource failed, once and with the cause first. Puppet repeats a failure: as its own error, as an
//! error of the resource, and as the exception behind both. For a service, each copy includes the journal.

use std::collections::HashSet;

/// Maximum number of lines shown for a failure.
const LINES: usize = 60;

/// Removes Puppet's `change from 'stopped' to 'running' failed: ` in front of the cause.
pub(super) fn cause(text: &str) -> String {
    const BEFORE: &str = "change from ";
    const AFTER: &str = " failed: ";
    let line_end = text.find('\n').unwrap_or(text.len());
    let line = &text[..line_end];
    let at = if line.starts_with(BEFORE) { Some(0) } else { line.find(": change from ").map(|at| at + 2) };
    let found = at.and_then(|at| line[at..].find(AFTER).map(|length| (at, at + length + AFTER.len())));
    match found {
        Some((at, end)) => format!("{}{}", &text[..at], &text[end..]),
        None => text.to_owned(),
    }
}

/// The headline of a failure, and the log lines below it, without repetitions. A service's own journal lines come
/// before those of systemd.
pub(super) fn explain(failure: &str, log: &[String]) -> (String, Vec<String>) {
    let failure = cause(failure);
    let (headline, rest) = failure.split_once('\n').unwrap_or((&failure, ""));
    // Prefer the log: the failure text may have been cut.
    let rest =
        if log.is_empty() { vec![rest.to_owned()] } else { log.iter().map(|text| cause(text)).collect() };
    let mut known = HashSet::new();
    let lines = rest.iter().flat_map(|text| text.lines()).map(str::trim_end).filter(|line| {
        !line.trim().is_empty() && !is_frame(line) && !headline.ends_with(*line) && known.insert(*line)
    });
    let (own, manager): (Vec<&str>, Vec<&str>) = lines.partition(|line| !line.contains(" systemd[1]: "));
    let mut lines: Vec<String> = own.into_iter().chain(manager).map(str::to_owned).collect();
    if lines.len() > LINES {
        let left_out = lines.len() - LINES;
        lines.truncate(LINES);
        lines.push(format!("… {left_out} more lines; `--output json` has all of them"));
    }
    (headline.to_owned(), lines)
}

/// Whether a line only frames a message.
fn is_frame(line: &str) -> bool {
    line == "Wrapped exception:"
        || line.starts_with("journalctl log for ")
        || line.starts_with("-- Journal begins at ")
        || line.starts_with("-- Logs begin at ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failed_change_is_removed_before_the_cause() {
        for (text, short) in [
            ("change from 'notrun' to ['0'] failed: '/bin/x' returned 3", "'/bin/x' returned 3"),
            (
                "Exec[x] (a.pp:1): change from 'a' to 'b' failed: no\nmore failed: x",
                "Exec[x] (a.pp:1): no\nmore failed: x",
            ),
            ("change from a to b", "change from a to b"),
            ("no change from a to b failed: x", "no change from a to b failed: x"),
            ("", ""),
        ] {
            assert_eq!(cause(text), short);
        }
    }

    #[test]
    fn a_failing_command_is_reported_once() {
        let returned = "'/bin/sh -c \"echo no; exit 3\"' returned 3 instead of one of [0]";
        let failure = format!("Exec[migrate] (db.pp:6): change from 'notrun' to ['0'] failed: {returned}");
        let log = [
            "applying 3 migrations".to_owned(),
            "relation users does not exist".to_owned(),
            returned.to_owned(),
            format!("{returned}\nWrapped exception:\n{returned}"),
            format!("change from 'notrun' to ['0'] failed: {returned}"),
        ];
        let (headline, lines) = explain(&failure, &log);
        assert_eq!(headline, format!("Exec[migrate] (db.pp:6): {returned}"));
        assert_eq!(lines, ["applying 3 migrations", "relation users does not exist"]);
    }

    #[test]
    fn a_failing_service_shows_its_journal_once_and_its_own_lines_first() {
        let journal = "Systemd start for web failed!\njournalctl log for web:\n-- Journal begins at Sun. --\n\
                       Nov 29 09:00:00 web-1 systemd[1]: Starting web.service...\n\
                       Nov 29 09:00:00 web-1 web[7]: line 3: unknown key\n\
                       Nov 29 09:00:00 web-1 systemd[1]: Failed to start web.service.\n";
        let change = format!("change from 'stopped' to 'running' failed: {journal}");
        let failure = format!("Service[web] (web.pp:2): {}", &change[..150]);
        let (headline, lines) = explain(&failure, &[journal.to_owned(), change]);
        assert_eq!(headline, "Service[web] (web.pp:2): Systemd start for web failed!");
        assert_eq!(
            lines,
            [
                "Nov 29 09:00:00 web-1 web[7]: line 3: unknown key",
                "Nov 29 09:00:00 web-1 systemd[1]: Starting web.service...",
                "Nov 29 09:00:00 web-1 systemd[1]: Failed to start web.service.",
            ]
        );
    }

    #[test]
    fn without_a_log_the_failure_itself_is_shown_and_long_ones_are_cut() {
        assert_eq!(explain("a\nb\nb\n\nc", &[]), ("a".into(), vec!["b".into(), "c".into()]));
        let long: String = (0..LINES + 2).map(|number| format!("\nline {number}")).collect();
        let (_, lines) = explain(&long, &[]);
        assert_eq!(lines.last().map(String::as_str), Some("… 2 more lines; `--output json` has all of them"));
    }
}
