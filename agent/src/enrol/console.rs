//! Messages on the console, which a provider can read without access to the host.

use std::{
    convert::Infallible,
    fs::OpenOptions,
    io::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Interval between repetitions of the key's digest: consoles are ring buffers and lose old lines.
const REPEAT: Duration = Duration::from_secs(30);

/// Number of repetitions: ten minutes' worth.
const REPEATS: u32 = 20;

/// The console; every message goes to the log as well.
pub struct Console(Option<Mutex<Box<dyn Write + Send>>>);

impl Console {
    /// A console that writes to `writer`.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Some(Mutex::new(Box::new(writer))))
    }

    /// `/dev/console`; if it cannot be opened (containers often have none), messages go only to the log.
    pub fn device() -> Self {
        match OpenOptions::new().append(true).open("/dev/console") {
            Ok(device) => Self::new(device),
            Err(error) => {
                tracing::warn!("/dev/console: {error}; console messages go to this log only");
                Self(None)
            }
        }
    }

    /// Writes one line.
    pub fn say(&self, line: &str) {
        tracing::info!("{line}");
        let Some(writer) = &self.0 else { return };
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        // The leading newline ends any partial line that another program wrote.
        let written = writer.write_all(format!("\n{line}\n").as_bytes()).and_then(|()| writer.flush());
        if let Err(error) = written {
            tracing::debug!("console: {error}");
        }
    }

    /// For a lasting condition: consecutive equal messages are written only once.
    pub fn changes(&self) -> Changes<'_> {
        Changes { console: self, last: None }
    }

    /// Writes one line when first polled, then again every 30 s for 10 min; never returns.
    pub async fn repeat(&self, line: &str) -> Infallible {
        for _ in 0..=REPEATS {
            self.say(line);
            // Not an interval: its first tick takes up to a millisecond, and enrolment may finish in that time.
            tokio::time::sleep(REPEAT).await;
        }
        std::future::pending().await
    }
}

/// See [`Console::changes`].
pub struct Changes<'a> {
    console: &'a Console,
    last: Option<String>,
}

impl Changes<'_> {
    /// Writes a line, unless it equals the previous one.
    pub fn say(&mut self, line: &str) {
        if self.last.as_deref() != Some(line) {
            self.console.say(line);
            self.last = Some(line.to_owned());
        }
    }
}
