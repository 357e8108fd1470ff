//! All output: data on stdout, messages on stderr. Nothing else in this program writes to either.
//!
//! All text goes through [`printable`] first, because nearly all of it contains text from a host. Only `ctl` itself
//! emits colours. A command's own output is passed through unchanged only to files and pipes, or with `--raw`.
//!
//! With `--output json` the data is versioned NDJSON, one object per line, each with `v` and `type`. A closed pipe
//! (`ctl … | head`) is no failure. Colours and bars appear only on a terminal, and colours not with `NO_COLOR`.

pub(crate) mod bundle;
mod cause;
mod csv;
mod diff;
#[cfg(test)]
mod hostile;
pub(crate) mod hosts;
pub(crate) mod image;
pub(crate) mod live;
pub(crate) mod pool;
pub(crate) mod printable;
pub(crate) mod provision;
pub(crate) mod question;
pub(crate) mod recap;
pub(crate) mod record;
pub(crate) mod table;
mod text;

use std::{
    env, fmt,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};

use self::printable::{printable_bytes, printable_json, printable_lines};
use crate::error::{Error, Kind, Result};

/// Version of the JSON objects; raised when a key changes its meaning or is removed.
pub const JSON_VERSION: u32 = 1;

type Sink = Arc<Mutex<dyn Write + Send>>;

/// Format of the data on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON object per line, versioned
    Json,
    /// Comma-separated values; only for cpu-log and exits
    Csv,
}

/// Destination and format of data and messages.
#[derive(Clone)]
pub struct Output {
    format: Format,
    data: Sink,
    /// Width of the terminal on stdout, in columns; `None` if stdout is not a terminal.
    width: Option<usize>,
    notes: Notes,
    /// Whether a command's own output is passed through unescaped, to stdout and to stderr.
    raw: [bool; 2],
}

/// The message half of an [`Output`], for code that prints no data.
#[derive(Clone)]
pub struct Notes {
    talk: Sink,
    colour: bool,
    terminal: bool,
    bars: indicatif::MultiProgress,
}

impl Output {
    /// The process's own stdout and stderr.
    pub fn standard(format: Format) -> Self {
        let terminals = [io::stdout().is_terminal(), io::stderr().is_terminal()];
        let terminal = terminals == [true; 2];
        let mut output = Self::new(format, io::stdout(), io::stderr());
        output.raw = terminals.map(|terminal| !terminal);
        let size = terminals[0].then(ratatui::crossterm::terminal::size);
        output.width = size.and_then(std::result::Result::ok).map(|(columns, _)| usize::from(columns));
        output.notes.terminal = terminal;
        output.notes.colour = terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        output
    }

    /// Writes to any two writers, without colours and bars.
    pub fn new(format: Format, data: impl Write + Send + 'static, talk: impl Write + Send + 'static) -> Self {
        let bars = indicatif::MultiProgress::new();
        let notes = Notes { talk: Arc::new(Mutex::new(talk)), colour: false, terminal: false, bars };
        Self { format, data: Arc::new(Mutex::new(data)), width: None, notes, raw: [true; 2] }
    }

    /// The same output; if `asked`, a command's own output is passed through unescaped to a terminal too.
    #[must_use]
    pub fn raw(&self, asked: bool) -> Self {
        Self { raw: self.raw.map(|raw| raw || asked), ..self.clone() }
    }

    /// Format of the data.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether the data is JSON.
    pub fn is_json(&self) -> bool {
        matches!(self.format, Format::Json)
    }

    /// Whether stdout and stderr are both terminals.
    pub fn is_terminal(&self) -> bool {
        self.notes.terminal
    }

    /// Prints a message for the user on stderr.
    pub fn note(&self, line: &str) {
        self.notes.note(line);
    }

    /// A clone of the message half.
    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// Prints the error that ends the program, with its hints; with JSON also as an object on stdout.
    pub fn error(&self, error: &Error) {
        self.clear_bars();
        if self.is_json() {
            let about = json!({
                "exit_code": error.kind().exit_code(), "message": error.to_string(), "hints": error.hints(),
            });
            // The message on stderr must follow even if stdout fails.
            let _ = self.record("error", about);
        }
        self.notes.parts(&[(Colour::Red, "error:"), (Colour::None, &continued(&error.to_string()))]);
        self.hints(error);
    }

    /// Prints only the hints of an error.
    pub fn hints(&self, error: &Error) {
        error.hints().iter().for_each(|hint| self.hint(hint));
    }

    /// Prints a hint: what the user can do now.
    pub fn hint(&self, hint: &str) {
        self.notes.parts(&[(Colour::Cyan, "hint:"), (Colour::None, &continued(hint))]);
    }

    /// The same output, but text data goes to stderr, because stdout belongs to a command.
    #[must_use]
    pub fn aside(&self) -> Self {
        if self.is_json() {
            self.clone()
        } else {
            Self { data: Arc::clone(&self.notes.talk), ..self.clone() }
        }
    }

    /// Prints an outcome that is no failure, such as a detach, with its hints.
    pub fn outcome(&self, outcome: &Error) {
        self.clear_bars();
        if self.is_json() && outcome.kind() == Kind::Detached {
            let _ =
                self.record("detached", json!({ "message": outcome.to_string(), "hints": outcome.hints() }));
        }
        self.notes.note(&outcome.to_string());
        outcome.hints().iter().for_each(|hint| self.notes.note(hint));
    }

    /// Removes the progress bars for good; otherwise they would stay on the screen.
    fn clear_bars(&self) {
        let _ = self.notes.bars.clear();
        self.notes.bars.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }

    /// Prints one line of data.
    ///
    /// # Errors
    /// When stdout cannot be written; a closed pipe is no error.
    pub fn line(&self, line: impl fmt::Display) -> Result<()> {
        self.page(format!("{line}\n").as_bytes())
    }

    /// Prints one line of data with colours, such as `[(Red, "failed"), (None, " Exec[x]")]`.
    fn parts(&self, parts: &[(Colour, &str)]) -> Result<()> {
        self.bytes(self.notes.painted(parts).as_bytes())
    }

    /// Prints one JSON object of type `kind`; `value` must be an object.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn record(&self, kind: &str, value: Value) -> Result<()> {
        let mut object = json!({ "v": JSON_VERSION, "type": kind });
        if let (Value::Object(object), Value::Object(more)) = (&mut object, value) {
            object.extend(more);
        }
        self.line(object)
    }

    /// Prints many lines of data, already in the output's format.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn page(&self, page: &[u8]) -> Result<()> {
        // Fast path: most pages are numbers and names from a record.
        if page.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t')) {
            return self.bytes(page);
        }
        let safe = match self.is_json() {
            true => printable_json(&String::from_utf8_lossy(page)),
            false => printable_bytes(page),
        };
        self.bytes(safe.as_bytes())
    }

    /// Passes on what a command wrote to stdout (1) or stderr (2), to the same stream.
    ///
    /// # Errors
    /// As [`Output::line`].
    fn pass_on(&self, fd: u32, bytes: &[u8]) -> Result<()> {
        let shown = match self.is_raw(fd) {
            true => bytes.into(),
            false => std::borrow::Cow::from(printable_bytes(bytes).into_bytes()),
        };
        if fd == 1 {
            return self.bytes(&shown);
        }
        self.notes.bytes(&shown);
        Ok(())
    }

    /// Whether a command's output on this descriptor is passed through unescaped.
    fn is_raw(&self, fd: u32) -> bool {
        self.raw[usize::from(fd != 1)]
    }

    /// Prints data unescaped: the caller is responsible for it.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let written = self.notes.bars.suspend(|| write(&self.data, bytes));
        written.map_err(|error| Error::invalid(format!("cannot write to standard output: {error}")))
    }
}

impl Notes {
    /// Prints a message for the user.
    pub fn note(&self, line: &str) {
        self.bytes(format!("{}\n", printable_lines(line)).as_bytes());
    }

    /// Prints many lines of messages.
    fn page(&self, page: &[u8]) {
        self.bytes(printable_bytes(page).as_bytes());
    }

    /// Prints a message with colours.
    fn parts(&self, parts: &[(Colour, &str)]) {
        self.bytes(self.painted(parts).as_bytes());
    }

    /// One line of these parts, each escaped before its colour is added.
    fn painted(&self, parts: &[(Colour, &str)]) -> String {
        let painted = parts.iter().map(|(colour, text)| {
            let text = printable_lines(text);
            match colour {
                Colour::None => text,
                _ if !self.colour => text,
                _ => format!("\x1b[{}m{text}\x1b[0m", *colour as u8),
            }
        });
        painted.chain(["\n".to_owned()]).collect()
    }

    /// Prints a message unescaped: the caller is responsible for it.
    fn bytes(&self, bytes: &[u8]) {
        // If stderr fails too, there is no way to report it.
        let _ = self.bars.suspend(|| write(&self.talk, bytes));
    }
}

/// SGR codes (ECMA-48 §8.3.117).
#[derive(Clone, Copy)]
enum Colour {
    None = 0,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}

/// ` text`, with all further lines indented, so that none of them reads as an error or hint from `ctl`.
fn continued(text: &str) -> String {
    let mut lines = text.split('\n');
    let mut out = format!(" {}", lines.next().unwrap_or_default());
    for line in lines {
        out.push_str(if line.starts_with([' ', '\t']) { "\n" } else { "\n  " });
        out.push_str(line);
    }
    out
}

fn write(sink: &Sink, bytes: &[u8]) -> io::Result<()> {
    let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
    match sink.write_all(bytes).and_then(|()| sink.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A writer whose content tests can read.
    #[derive(Clone, Default)]
    pub(crate) struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.bytes()).unwrap()
        }

        pub(crate) fn bytes(&self) -> Vec<u8> {
            self.0.lock().unwrap().clone()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(crate) fn pages(format: Format) -> (Output, Page, Page) {
        let (data, talk) = (Page::default(), Page::default());
        (Output::new(format, data.clone(), talk.clone()), data, talk)
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_error_is_a_sentence_with_hints_on_stderr() {
        let (output, data, talk) = pages(Format::Json);
        output.error(&Error::new(Kind::Busy, "db-1 is busy").hint("wait"));
        // With JSON, the same error is also an object on stdout.
        insta::assert_snapshot!(data.text(), @r#"{"exit_code":4,"hints":["wait"],"message":"db-1 is busy","type":"error","v":1}"#);
        insta::assert_snapshot!(talk.text(), @r"
        error: db-1 is busy
        hint: wait
        ");
    }

    #[test]
    fn a_detach_is_no_error() {
        let (output, data, talk) = pages(Format::Json);
        let detached = Error::new(Kind::Detached, "detached: run db-1-x7k2m9 goes on");
        output.outcome(&detached.hint("`ctl attach db-1-x7k2m9` shows it"));
        insta::assert_snapshot!(data.text(), @r#"{"hints":["`ctl attach db-1-x7k2m9` shows it"],"message":"detached: run db-1-x7k2m9 goes on","type":"detached","v":1}"#);
        insta::assert_snapshot!(talk.text(), @r"
        detached: run db-1-x7k2m9 goes on
        `ctl attach db-1-x7k2m9` shows it
        ");
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
        assert!(Output::new(Format::Text, Gone, Gone).line("x").is_ok());
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(Output::new(Format::Text, full, Gone).line("x").is_err());
    }
}
