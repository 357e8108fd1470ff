//! What the agent says where a provider can read it without having access to the host.

use std::{
    convert::Infallible,
    fs::OpenOptions,
    io::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How often the key's digest is repeated: consoles are rings that roll over.
const REPEAT: Duration = Duration::from_secs(30);

/// How often in all: ten minutes' worth.
const REPEATS: u32 = 20;

/// The console; what is said there is said in the log as well.
pub struct Console(Option<Mutex<Box<dyn Write + Send>>>);

impl Console {
    /// A console that is some writer.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Some(Mutex::new(Box::new(writer))))
    }

    /// `/dev/console`; where it cannot be opened (containers often have none), the log alone must do.
    pub fn device() -> Self {
        match OpenOptions::new().append(true).open("/dev/console") {
            Ok(device) => Self::new(device),
            Err(error) => {
                tracing::warn!("/dev/console: {error}; messages for it go to this log only");
                Self(None)
            }
        }
    }

    /// Says one line.
    pub fn say(&self, line: &str) {
        tracing::info!("{line}");
        let Some(writer) = &self.0 else { return };
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        // The newline before it ends whatever half line somebody else left there.
        let written = writer.write_all(format!("\n{line}\n").as_bytes()).and_then(|()| writer.flush());
        if let Err(error) = written {
            tracing::debug!("console: {error}");
        }
    }

    /// For a condition that lasts: what is said once is not said again until something else was.
    pub fn changes(&self) -> Changes<'_> {
        Changes { console: self, last: None }
    }

    /// Says one line now, when it is first polled, and again every 30 s for 10 min; never returns.
    pub async fn repeat(&self, line: &str) -> Infallible {
        for _ in 0..=REPEATS {
            self.say(line);
            // No interval: its first tick takes up to a millisecond, in which a host can have been enrolled.
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
    /// Says a line, unless it is what was said last.
    pub fn say(&mut self, line: &str) {
        if self.last.as_deref() != Some(line) {
            self.console.say(line);
            self.last = Some(line.to_owned());
        }
    }
}
