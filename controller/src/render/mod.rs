//! Everything that a user sees: data on stdout, talk on stderr. Nothing else in this program writes to either.
//!
//! Whatever is printed goes through [`printable`] first, as nearly all of it has words of a host in it. Colours are
//! Magpie's own alone. Only a command's own output is passed on as it is: to files and pipes, or if the user asked.
//!
//! With `--output json` the data is versioned NDJSON, one object a line, each with `v` and `type`. A reader that has
//! gone away (`ctl … | head`) is no failure. Colours and bars appear only on a terminal, and colours not with `NO_COLOR`.

pub mod bundle;
mod cause;
mod csv;
mod diff;
#[cfg(test)]
mod hostile;
pub mod hosts;
pub mod image;
pub mod live;
pub mod pool;
pub(crate) mod printable;
pub mod provision;
pub mod question;
pub mod recap;
pub mod record;
pub mod table;
mod text;

use std::{
    env, fmt,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};

use self::printable::{printable_bytes, printable_json, printable_lines};
use crate::error::{Error, Kind, Result};

/// Version of the JSON objects; raised when a key changes its meaning or goes away.
pub const JSON_VERSION: u32 = 1;

type Sink = Arc<Mutex<dyn Write + Send>>;

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON object a line, versioned
    Json,
    /// Rows of comma-separated values; only of cpu-log and exits
    Csv,
}

/// Where data and talk go, and how.
#[derive(Clone)]
pub struct Output {
    format: Format,
    data: Sink,
    /// Columns of the terminal that the data goes to.
    width: Option<usize>,
    notes: Notes,
    /// Is a command's own output passed on as it is? To stdout, and to stderr.
    raw: [bool; 2],
}

/// The talking half of an [`Output`], for those who have no data.
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

    /// Any two writers, without colours and bars.
    pub fn new(format: Format, data: impl Write + Send + 'static, talk: impl Write + Send + 'static) -> Self {
        let bars = indicatif::MultiProgress::new();
        let notes = Notes { talk: Arc::new(Mutex::new(talk)), colour: false, terminal: false, bars };
        Self { format, data: Arc::new(Mutex::new(data)), width: None, notes, raw: [true; 2] }
    }

    /// The same, but a command's own output is passed on as it is to a terminal, too, if `asked`.
    #[must_use]
    pub fn raw(&self, asked: bool) -> Self {
        Self { raw: self.raw.map(|raw| raw || asked), ..self.clone() }
    }

    /// How the data is printed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Is the data for programs, as JSON?
    pub fn is_json(&self) -> bool {
        matches!(self.format, Format::Json)
    }

    /// Does a person watch the data?
    pub fn is_terminal(&self) -> bool {
        self.notes.terminal
    }

    /// Says something to the person, not to the program that reads the data.
    pub fn note(&self, line: &str) {
        self.notes.note(line);
    }

    /// The talking half, to be given away.
    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// The error that ends the program, with its hints; for programs also as an object of data.
    pub fn error(&self, error: &Error) {
        self.clear_bars();
        if self.is_json() {
            let about = json!({
                "exit_code": error.kind().exit_code(), "message": error.to_string(), "hints": error.hints(),
            });
            // The sentence on stderr is still to come, whatever became of stdout.
            let _ = self.record("error", about);
        }
        self.notes.parts(&[(Colour::Red, "error:"), (Colour::None, &continued(&error.to_string()))]);
        self.hints(error);
    }

    /// The hints of an error alone.
    pub fn hints(&self, error: &Error) {
        error.hints().iter().for_each(|hint| self.hint(hint));
    }

    /// What a person can do about what was said.
    pub fn hint(&self, hint: &str) {
        self.notes.parts(&[(Colour::Cyan, "hint:"), (Colour::None, &continued(hint))]);
    }

    /// The same, but for people all of it goes to stderr: where stdout is a command's own.
    #[must_use]
    pub fn aside(&self) -> Self {
        if self.is_json() {
            self.clone()
        } else {
            Self { data: Arc::clone(&self.notes.talk), ..self.clone() }
        }
    }

    /// How a command ended that did not fail: what there is to know, and to do.
    pub fn outcome(&self, outcome: &Error) {
        self.clear_bars();
        if self.is_json() && outcome.kind() == Kind::Detached {
            let _ =
                self.record("detached", json!({ "message": outcome.to_string(), "hints": outcome.hints() }));
        }
        self.notes.note(&outcome.to_string());
        outcome.hints().iter().for_each(|hint| self.notes.note(hint));
    }

    /// Takes away what is redrawn on the terminal, for good: it would stay as it was.
    fn clear_bars(&self) {
        let _ = self.notes.bars.clear();
        self.notes.bars.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }

    /// One line of data for a person.
    ///
    /// # Errors
    /// When stdout cannot be written, other than because nobody reads it.
    pub fn line(&self, line: impl fmt::Display) -> Result<()> {
        self.page(format!("{line}\n").as_bytes())
    }

    /// One line of data with colours, such as `[(Red, "failed"), (None, " Exec[x]")]`.
    fn parts(&self, parts: &[(Colour, &str)]) -> Result<()> {
        self.bytes(self.notes.painted(parts).as_bytes())
    }

    /// One object of data for a program; `value` must be an object.
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

    /// Many lines of data, in the output's format.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn page(&self, page: &[u8]) -> Result<()> {
        // Most pages are the numbers and names of a record.
        if page.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t')) {
            return self.bytes(page);
        }
        let safe = match self.is_json() {
            true => printable_json(&String::from_utf8_lossy(page)),
            false => printable_bytes(page),
        };
        self.bytes(safe.as_bytes())
    }

    /// What a command wrote to stdout (1) or stderr (2), which is where it goes.
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

    /// Is what a command wrote there passed on as it is?
    fn is_raw(&self, fd: u32) -> bool {
        self.raw[usize::from(fd != 1)]
    }

    /// Data as it is: the caller answers for it.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let written = self.notes.bars.suspend(|| write(&self.data, bytes));
        written.map_err(|error| Error::invalid(format!("cannot write to standard output: {error}")))
    }
}

impl Notes {
    /// Says something to the person.
    pub fn note(&self, line: &str) {
        self.bytes(format!("{}\n", printable_lines(line)).as_bytes());
    }

    /// Many lines.
    fn page(&self, page: &[u8]) {
        self.bytes(printable_bytes(page).as_bytes());
    }

    /// Says something with colours.
    fn parts(&self, parts: &[(Colour, &str)]) {
        self.bytes(self.painted(parts).as_bytes());
    }

    /// A line of these parts, each harmless before its colour is added.
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

    /// Talk as it is: the caller answers for it.
    fn bytes(&self, bytes: &[u8]) {
        // Where even stderr fails there is nobody left to tell.
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

/// ` text`; its other lines are indented, so that none of them reads as an error or a hint of Magpie's own.
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

    /// A writer that others can look into.
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
        // Programs get the same as data.
        insta::assert_snapshot!(data.text(), @r#"{"exit_code":4,"hints":["wait"],"message":"db-1 is busy","type":"error","v":1}"#);
        insta::assert_snapshot!(talk.text(), @r"
        error: db-1 is busy
        hint: wait
        ");
    }

    #[test]
    fn letting_go_of_a_run_is_no_error() {
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
    fn a_reader_that_went_away_is_no_failure_and_a_full_disk_is() {
        assert!(Output::new(Format::Text, Gone, Gone).line("x").is_ok());
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(Output::new(Format::Text, full, Gone).line("x").is_err());
    }
}
