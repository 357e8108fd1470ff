//! `ctl top` on a real terminal: what is on it follows the keys, and it is given back as it was.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use proto::history::{BootId, Identity, Process, Sample, encode};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A loaded machine takes its time.
const PATIENCE: Duration = Duration::from_secs(60);
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

/// A terminal of 80 columns and 24 lines with `ctl top` on it, and what a person would see there.
struct Terminal {
    child: Child,
    keyboard: File,
    output: Receiver<Vec<u8>>,
    device: String,
    seen: Vec<u8>,
    cells: Vec<Vec<char>>,
}

impl Terminal {
    fn start(record: &Path) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let device = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        stty(&device, &["rows", "24", "cols", "80"]);
        let side = || OpenOptions::new().read(true).write(true).open(&device).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ctl"))
            .args(["top", "--from-dir"])
            .arg(record)
            .env("TERM", "xterm-256color")
            .env("TZ", "UTC")
            .stdin(side())
            .stdout(side())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let keyboard = File::from(master);
        let mut reader = keyboard.try_clone().unwrap();
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keyboard, output, device, seen: Vec::new(), cells: vec![vec![' '; 80]; 24] }
    }

    fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until some line of the screen has this in it.
    fn wait_for(&mut self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.lines().any(|line| line.contains(wanted)) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.output.recv_timeout(left) else {
                panic!("no {wanted:?} on the screen:\n{}", self.lines().collect::<Vec<_>>().join("\n"));
            };
            self.seen.extend(bytes);
            self.paint();
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        self.cells.iter().map(|line| line.iter().collect())
    }

    /// The little of a terminal that is used: the cursor is put somewhere, and characters are written there.
    fn paint(&mut self) {
        let text = String::from_utf8_lossy(&self.seen).into_owned();
        let (mut row, mut column) = (0, 0);
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c != '\u{1b}' {
                if let Some(cell) = self.cells.get_mut(row).and_then(|line| line.get_mut(column)) {
                    *cell = c;
                }
                column += 1;
                continue;
            }
            if rest.next() != Some('[') {
                continue;
            }
            let mut numbers = String::new();
            let end = rest.find(|c| {
                numbers.push(*c);
                c.is_ascii_alphabetic()
            });
            if end == Some('H') {
                let mut place = numbers.trim_end_matches('H').split(';').map(|n| n.parse().unwrap_or(1));
                (row, column) = (place.next().unwrap_or(1) - 1, place.next().unwrap_or(1) - 1);
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stty(device: &str, args: &[&str]) -> String {
    let output = Command::new("stty").args(["-F", device]).args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn keys_travel_in_time_and_the_terminal_is_given_back() {
    let directory = tempfile::tempdir().unwrap();
    write_record(directory.path());
    let mut terminal = Terminal::start(directory.path());
    terminal.wait_for("2011-07-13 00:09:59");
    terminal.wait_for("26096");
    assert!(stty(&terminal.device, &["-a"]).contains("-icanon"), "not in raw mode");
    // Left, Page Up, Home, as xterm sends them.
    for (key, moment) in
        [("\u{1b}[D", "00:09:58"), ("[", "00:08:58"), ("\u{1b}[5~", "00:00:00"), ("\u{1b}[C", "00:00:01")]
    {
        terminal.type_keys(key);
        terminal.wait_for(&format!("2011-07-13 {moment}"));
    }
    terminal.type_keys("\r");
    terminal.wait_for("process 26096");
    // Ctrl-C, which is a key in raw mode.
    terminal.type_keys("\u{3}");
    assert!(terminal.child.wait().unwrap().success());
    let settings = stty(&terminal.device, &["-a"]);
    assert!(!settings.contains("-icanon") && !settings.contains("-echo "), "{settings}");
    while let Ok(bytes) = terminal.output.recv_timeout(Duration::from_millis(200)) {
        terminal.seen.extend(bytes);
    }
    let seen = String::from_utf8_lossy(&terminal.seen);
    assert!(seen.contains("\u{1b}[?1049h") && seen.contains("\u{1b}[?1049l"), "the first screen is not back");
}

#[test]
fn without_a_terminal_there_is_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    write_record(directory.path());
    let output =
        Command::new(env!("CARGO_BIN_EXE_ctl")).args(["top", "--from-dir"]).arg(directory.path()).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty() && said.contains("no terminal") && said.contains("cpu-log"), "{said}");
}
