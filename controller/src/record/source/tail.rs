//! The two write-ahead tails of a directory: the newest samples, made into blocks so that all are read alike.

use std::{fs, io, path::Path};

use record::{Builder, Damage, tail};

/// What is in one tail. It may be in a segment too, which the sequence numbers tell.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The samples; absent if there are none.
    pub(super) samples: Option<Builder>,
    /// What cannot be read behind them, as a sentence.
    pub(super) lost: Option<String>,
}

/// The tails of a directory, oldest first.
pub(super) fn read(directory: &Path) -> Vec<Tail> {
    let mut tails: Vec<Tail> = Vec::new();
    for name in tail::NAMES {
        let tail = match fs::read(directory.join(name)) {
            Ok(bytes) => parse(name, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Tail::unreadable(name, &error),
        };
        tails.push(tail);
    }
    tails.sort_by_key(|tail| tail.samples.as_ref().map_or(u64::MAX, Builder::first_sequence));
    tails
}

fn parse(name: &str, bytes: &[u8]) -> Tail {
    let mut tail = Tail::default();
    let scan = match tail::scan(bytes) {
        Ok(Some(scan)) => scan,
        Ok(None) => return tail,
        Err(_) if bytes.is_empty() => return tail,
        Err(damage) => return Tail::unreadable(name, &damage),
    };
    // What a crash cut short never was a sample.
    if let Some(damage) = scan.damage.filter(|damage| *damage != Damage::Cut) {
        tail.lost = Some(format!("{name} cannot be read from its byte {} on: {damage}", scan.good_bytes));
    }
    tail.samples = Some(scan.builder).filter(|builder| builder.records() > 0);
    tail
}

impl Tail {
    fn unreadable(name: &str, why: &dyn std::fmt::Display) -> Self {
        let lost = format!("{name}, which may hold the newest samples, cannot be read: {why}");
        Self { lost: Some(lost), ..Self::default() }
    }
}
