//! `ctl top` on a real terminal: it reacts to keys, restores the terminal, and keeps running when its host goes away.

use std::{fs, path::Path, process::Command};

use record::{BootId, Identity, Process, Sample, encode};
use tests::{Fleet, Terminal, binary, repository};

/// 2011-07-13 00:00:00 UTC
const MIDNIGHT_MS: i64 = 1_310_515_200_000;

/// Ten minutes of one process.
fn write_record(directory: &Path) {
    let sample = |second: u64| Sample {
        boot_id: BootId([1; 16]),
        wall_ms: MIDNIGHT_MS + second as i64 * 1_000,
        boottime_ns: (1_000 + second) * 1_000_000_000,
        interval_ms: 1_000,
        listed: 1,
        processes: vec![Process {
            comm: "apache2".into(),
            command: Some("/usr/sbin/apache2 -k start".into()),
            user_us: second * 500_000,
            ..Process::bare(Identity { pid: 26_096, started_ns: 10_000_000 })
        }],
        ..Sample::default()
    };
    let samples: Vec<_> = (0..600).map(sample).collect();
    let mut sequence = 0;
    let mut segment = Vec::new();
    for chunk in samples.chunks(100) {
        segment.extend(encode(chunk, sequence).unwrap());
        sequence += chunk.len() as u64;
    }
    fs::write(directory.join(format!("{:020}.blocks", 0)), segment).unwrap();
}

/// `ctl top` on that record.
fn top(record: &Path) -> Command {
    let mut command = Command::new(binary("ctl"));
    command.args(["top", "--from-dir"]).arg(record);
    command
}

#[test]
fn keys_travel_in_time_and_the_terminal_is_given_back() {
    let directory = tempfile::tempdir().unwrap();
    write_record(directory.path());
    let mut terminal = Terminal::start(top(directory.path()));
    terminal.wait_for("2011-07-13 00:09:59");
    terminal.wait_for("26096");
    assert!(terminal.settings().contains("-icanon"), "not in raw mode");
    // Left, Page Up, Home: the sequences of xterm.
    for (key, moment) in
        [("\u{1b}[D", "00:09:58"), ("[", "00:08:58"), ("\u{1b}[5~", "00:00:00"), ("\u{1b}[C", "00:00:01")]
    {
        terminal.type_keys(key);
        terminal.wait_for(&format!("2011-07-13 {moment}"));
    }
    terminal.type_keys("\r");
    terminal.wait_for("process 26096");
    // Ctrl-C is a key in raw mode.
    terminal.type_keys("\u{3}");
    assert!(terminal.child.wait().unwrap().success());
    let settings = terminal.settings();
    assert!(!settings.contains("-icanon") && !settings.contains("-echo "), "{settings}");
    let seen = terminal.all_output();
    assert!(seen.contains("\u{1b}[?1049h") && seen.contains("\u{1b}[?1049l"), "the first screen is not back");
}

#[test]
fn without_a_terminal_there_is_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    write_record(directory.path());
    let output = top(directory.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        output.stdout.is_empty() && said.contains("not a terminal") && said.contains("cpu-log"),
        "{said}"
    );
}

#[test]
fn a_host_that_dies_stays_on_the_screen_and_goes_on_when_it_is_back() {
    let fleet = Fleet::new(&repository("tests/fixtures/control"), &["quick"]);
    fleet.ok(&["provision", "--role", "quick"]);
    let mut terminal = Terminal::start(fleet.command(&["top", "quick-1"]));
    terminal.wait_for("/usr/bin/dbus-daemon");
    // The host's own memory, and the machine's figures labelled as such.
    terminal.wait_for("of limit 1.0G");
    terminal.wait_for("* of the whole machine");
    fleet.ok(&["stop", "quick-1"]);
    terminal.wait_for("no connection, retrying");
    // The last sample is still on the screen.
    terminal.wait_for("/usr/bin/dbus-daemon");
    fleet.ok(&["start", "quick-1"]);
    terminal.wait_for_end_of("no connection, retrying");
    terminal.type_keys("q");
    assert!(terminal.child.wait().expect("it ends").success());
}
