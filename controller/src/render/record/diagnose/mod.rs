//! Verdicts: a sentence first, then what it rests on, who is innocent, how sure it is, and what is not known.

mod causes;
mod json;
#[cfg(test)]
mod tests;
mod words;

use jiff::tz::TimeZone;

use crate::{
    error::Result,
    record::{
        diagnose::verdict::{Confidence, Unknown, Verdict},
        time::timestamp,
    },
    render::{Output, text::local},
};

/// The record that was read, for the headline and for commands that show more.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// Name of the host, or path of the directory.
    pub name: String,
    /// The argument that names the record: `web-1`, or `--from-dir DIR`.
    pub argument: String,
    /// First and last sample that was read, ms since the Unix epoch.
    pub range_ms: (i64, i64),
}

/// Shows one verdict.
///
/// # Errors
/// When stdout cannot be written.
pub(crate) fn verdict(output: &Output, subject: &Subject, verdict: &Verdict, zone: &TimeZone) -> Result<()> {
    if output.is_json() {
        return output.record("verdict", json::object(subject, verdict));
    }
    let at = local(timestamp(verdict.from_ms), zone);
    output.line(format!("{}  {at}  {}", subject.name, words::headline(verdict)))?;
    let facts = [
        ("evidence", words::evidence(verdict)),
        ("killed", words::victims(verdict)),
        ("not the cause", words::innocents(verdict)),
        ("follows from it", words::symptoms(verdict)),
        ("run", words::run(verdict, zone)),
        ("what to do", words::advice(verdict)),
        ("confidence", vec![confidence(verdict.confidence).to_owned()]),
        ("not known", words::unknown(&verdict.unknown)),
        ("see also", words::commands(verdict, subject, zone)),
    ];
    for (name, sentences) in facts {
        for (index, sentence) in sentences.into_iter().enumerate() {
            output.line(format!("  {:<16} {sentence}", if index == 0 { name } else { "" }))?;
        }
    }
    Ok(())
}

/// Shows that nothing was found, and what could not be seen.
///
/// # Errors
/// When stdout cannot be written.
pub(crate) fn healthy(
    output: &Output,
    subject: &Subject,
    unknown: &[Unknown],
    zone: &TimeZone,
) -> Result<()> {
    if output.is_json() {
        return output.record("healthy", json::healthy(subject, unknown));
    }
    let [from, until] = [subject.range_ms.0, subject.range_ms.1].map(|ms| local(timestamp(ms), zone));
    output.line(format!("{}  nothing ran out between {from} and {until}", subject.name))?;
    for (index, sentence) in words::unknown(unknown).into_iter().enumerate() {
        output.line(format!("  {:<16} {sentence}", if index == 0 { "not known" } else { "" }))?;
    }
    Ok(())
}

/// A word for people and programs.
fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::High => "high",
        Confidence::Medium => "medium",
        Confidence::Low => "low",
    }
}
