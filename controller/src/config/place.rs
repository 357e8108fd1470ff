//! Finds the line of a setting in the file, for error messages.

use std::fmt;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// An invalid setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Path of the setting, relative to the table that was checked.
    pub(super) path: Vec<Step>,
    /// What is wrong.
    pub(super) message: String,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Key in a table.
    Key(String),
    /// Index in a list.
    Index(usize),
}

impl Step {
    /// A key in a table.
    pub(super) fn key(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl Problem {
    /// Appends a step to the path.
    pub(super) fn below(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    /// `<line>: <path>: <message>`. The setting is in the first of `tables` that contains it, or the longest part of
    /// its path.
    pub(super) fn sentence(&self, text: &str, tables: &[Vec<Step>]) -> String {
        let mut best: Option<(usize, usize, Vec<Step>)> = None;
        for table in tables {
            let path: Vec<Step> = table.iter().chain(&self.path).cloned().collect();
            let (depth, offset) = find(text, &path);
            if best.as_ref().is_none_or(|(deepest, ..)| depth > *deepest) {
                best = Some((depth, offset, path));
            }
        }
        let (_, offset, path) = best.unwrap_or_default();
        let line = 1 + text.get(..offset).unwrap_or_default().matches('\n').count();
        format!("{line}: {}: {}", Path(&path), self.message)
    }
}

/// Follows `path` as far as it exists. Returns the number of steps and the byte offset of the last.
fn find(text: &str, path: &[Step]) -> (usize, usize) {
    let Ok(root) = DeTable::parse(text) else { return (0, 0) };
    let (mut depth, mut offset) = (0, 0);
    let mut value: Option<&Spanned<DeValue<'_>>> = None;
    for step in path {
        let (start, next) = match (step, value.map(Spanned::get_ref)) {
            (Step::Key(key), None) => match entry(root.get_ref(), key) {
                Some(found) => found,
                None => break,
            },
            (Step::Key(key), Some(DeValue::Table(table))) => match entry(table, key) {
                Some(found) => found,
                None => break,
            },
            (Step::Index(index), Some(DeValue::Array(list))) => match list.get(*index) {
                Some(item) => (item.span().start, item),
                None => break,
            },
            _ => break,
        };
        (depth, offset, value) = (depth + 1, start, Some(next));
    }
    (depth, offset)
}

fn entry<'a, 'i>(table: &'a DeTable<'i>, name: &str) -> Option<(usize, &'a Spanned<DeValue<'i>>)> {
    table.iter().find(|(key, _)| key.get_ref().as_ref() == name).map(|(key, value)| (key.span().start, value))
}

struct Path<'a>(&'a [Step]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
