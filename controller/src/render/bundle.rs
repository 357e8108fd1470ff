//! Contents and origin of a bundle.

use jiff::Timestamp;
use proto::bundle::{Entry, Kind};
use serde_json::json;

use super::{Output, text::size};
use crate::{bundle::Bundle, error::Result};

/// Prints digest and provenance.
pub(crate) fn bundle(output: &Output, bundle: &Bundle) -> Result<()> {
    let (files, provenance) = (bundle.manifest().files().count(), bundle.provenance());
    if output.is_json() {
        return output.record(
            "bundle",
            json!({
                "digest": bundle.digest().to_string(), "files": files, "bytes": bundle.total_bytes(),
                "commit": provenance.commit, "dirty": provenance.dirty, "who": provenance.who,
                "when_unix_ms": provenance.when_unix_ms,
            }),
        );
    }
    output.line(bundle.digest())?;
    let when = Timestamp::from_millisecond(provenance.when_unix_ms).unwrap_or_default();
    let commit = if provenance.commit.is_empty() { "no commit" } else { provenance.commit.as_str() };
    let changed = match provenance.dirty.len() {
        0 => String::new(),
        count => format!(", {count} paths changed since"),
    };
    output.note(&format!(
        "{files} files, {}; {commit}{changed}; {} at {when:.0}",
        size(bundle.total_bytes()),
        provenance.who
    ));
    Ok(())
}

/// Prints every path, like `ls -l`.
pub(crate) fn entries(output: &Output, bundle: &Bundle) -> Result<()> {
    bundle.manifest().entries().iter().try_for_each(|entry| {
        if output.is_json() {
            return output.record("entry", json_entry(entry));
        }
        let (mode, bytes, target) = match &entry.kind {
            Kind::Directory => ("drwxr-xr-x", 0, String::new()),
            Kind::File { executable: true, blob } => ("-rwxr-xr-x", blob.size, String::new()),
            Kind::File { executable: false, blob } => ("-rw-r--r--", blob.size, String::new()),
            Kind::Link { target } => ("lrwxrwxrwx", 0, format!(" -> {target}")),
        };
        output.line(format_args!("{mode} {bytes:>9} {}{target}", entry.path))
    })
}

fn json_entry(entry: &Entry) -> serde_json::Value {
    match &entry.kind {
        Kind::Directory => json!({ "path": entry.path, "kind": "directory" }),
        Kind::File { executable, blob } => json!({
            "path": entry.path, "kind": "file", "executable": executable, "bytes": blob.size,
            "sha256": blob.digest.to_string(),
        }),
        Kind::Link { target } => json!({ "path": entry.path, "kind": "link", "target": target }),
    }
}
