//! A terminal for testing full-screen programs.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Timeout; a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal of 80 columns and 24 lines, the program running on it, and its screen.
#[derive(Debug)]
pub struct Terminal {
    /// The program.
    pub child: Child,
    keyboard: File,
    output: Receiver<Vec<u8>>,
    device: String,
    seen: Vec<u8>,
    cells: Vec<Vec<char>>,
}

impl Terminal {
    /// Starts `command` on a new terminal.
    pub fn start(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let device = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        stty(&device, &["rows", "24", "cols", "80"]);
        let side = || OpenOptions::new().read(true).write(true).open(&device).unwrap();
        let child = command
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

    /// Types these keys.
    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until a line of the screen contains this text.
    #[track_caller]
    pub fn wait_for(&mut self, wanted: &str) {
        self.wait_until(wanted, true);
    }

    /// Waits until no line of the screen contains this text.
    #[track_caller]
    pub fn wait_for_end_of(&mut self, unwanted: &str) {
        self.wait_until(unwanted, false);
    }

    #[track_caller]
    fn wait_until(&mut self, text: &str, is_there: bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.lines().any(|line| line.contains(text)) != is_there {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.output.recv_timeout(left) else {
                let screen = self.lines().collect::<Vec<_>>().join("\n");
                panic!("on the screen, {text:?} is not {is_there}:\n{screen}");
            };
            self.seen.extend(bytes);
            self.paint();
        }
    }

    /// Waits for the program to end; returns everything that it wrote.
    pub fn all_output(&mut self) -> String {
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(200)) {
            self.seen.extend(bytes);
        }
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Settings of the terminal, as listed by stty(1).
    pub fn settings(&self) -> String {
        stty(&self.device, &["-a"])
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        self.cells.iter().map(|line| line.iter().collect())
    }

    /// Interprets the few sequences that are used: cursor positions and text.
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
