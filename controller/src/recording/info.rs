//! What a directory's record holds, from the headers of its blocks and its newest sample; the same message that a host
//! answers with.

use std::fs;

use proto::{
    history::{Columns, Gap, Header, Sample, gaps},
    pb::{self, InfoReply},
};

use super::{Directory, Filter, Piece};
use crate::error::Result;

/// Most gaps that are told; the shorter ones are left out.
const GAPS: usize = 100;

impl Directory {
    /// What the record holds.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn info(&self) -> Result<InfoReply> {
        let (headers, lost) = self.headers()?;
        let newest_unix_ms = headers.iter().map(|header| header.latest_wall_ms).max().unwrap_or(0);
        let mut found = gaps(&headers);
        found.sort_by_key(|gap| std::cmp::Reverse(gap.length_ms));
        found.truncate(GAPS);
        found.sort_by_key(|gap| gap.from_ms);
        let bytes = self.bytes()?;
        Ok(InfoReply {
            oldest_unix_ms: headers.iter().map(|header| header.earliest_wall_ms).min().unwrap_or(0),
            newest_unix_ms,
            samples: headers.iter().map(|header| u64::from(header.records)).sum(),
            blocks: headers.len() as u64,
            bytes,
            gaps: found.into_iter().map(message).collect(),
            restarts: headers.windows(2).filter(|pair| pair[0].boot_id != pair[1].boot_id).count() as u64,
            lost,
            recorder: self.recorder(newest_unix_ms, bytes)?,
            ..InfoReply::default()
        })
    }

    /// What all blocks say about themselves, oldest first and each once, and what cannot be read.
    pub(super) fn headers(&self) -> Result<(Vec<Header>, Vec<String>)> {
        let mut blocks = self.blocks(Filter::nothing())?;
        let lost = blocks.by_ref().flat_map(|block| block.lost).collect();
        Ok((blocks.into_headers(), lost))
    }

    /// What the newest sample says of the recorder.
    fn recorder(&self, newest_unix_ms: i64, bytes: u64) -> Result<Option<pb::Recorder>> {
        let filter = Filter { from_ms: newest_unix_ms, until_ms: newest_unix_ms, ..Filter::default() };
        let mut newest = None;
        for block in self.blocks(filter)? {
            block.each(Columns::NONE, |piece| {
                if let Piece::Sample(sample) = piece {
                    newest = Some(recorder(sample, bytes));
                }
                Ok(())
            })?;
        }
        Ok(newest)
    }

    /// Bytes of all its files.
    fn bytes(&self) -> Result<u64> {
        let files =
            fs::read_dir(self.path()).map_err(|error| super::directory::unreadable(self.path(), &error))?;
        Ok(files.flatten().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum())
    }
}

fn message(gap: Gap) -> pb::Gap {
    pb::Gap { from_unix_ms: gap.from_ms, until_unix_ms: gap.until_ms, length_ms: gap.length_ms }
}

/// Nobody records here any more.
fn recorder(sample: &Sample, bytes: u64) -> pb::Recorder {
    pb::Recorder {
        running: false,
        bytes,
        last_sample_unix_ms: sample.wall_ms,
        collector: sample.collector.name().into(),
        missing: sample.sources.missing().map(Into::into).collect(),
        cpu_ppm: sample.own_cpu_ppm(),
        sweep_us: sample.sweep_ns / 1_000,
        dropped: sample.dropped,
    }
}
