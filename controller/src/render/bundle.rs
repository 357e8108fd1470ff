//! Contents and origin of a bundle.

use jiff::Timestamp;
use proto::bundle::{Entry, Kind, Provenance};
use serde_json::json;

use super::{
    Output,
    text::{counted, size},
};
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
    let (files, size) = (counted(files as u64, "file"), size(bundle.total_bytes()));
    // The commit has an author and a date of its own; these are those of the bundle.
    let built = format!("bundle built by {} at {when:.0}", provenance.who);
    output.note(&format!("{files}, {size}; {}; {built}", commit(provenance)));
    Ok(())
}

fn commit(provenance: &Provenance) -> String {
    let Provenance { commit, dirty, .. } = provenance;
    match (commit.as_str(), dirty.len()) {
        ("", _) => "no commit".to_owned(),
        (commit, 0) => format!("commit {commit}"),
        (commit, changed) => {
            format!("commit {commit}, {} changed since", counted(changed as u64, "path"))
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_named_with_what_changed_since() {
        let said = |of: &str, dirty: &[&str]| {
            let dirty = dirty.iter().map(|&path| path.to_owned()).collect();
            commit(&Provenance { commit: of.into(), dirty, ..Provenance::default() })
        };
        assert_eq!(said("", &[]), "no commit");
        assert_eq!(said("0123abcd", &[]), "commit 0123abcd");
        assert_eq!(said("0123abcd", &["a"]), "commit 0123abcd, 1 path changed since");
        assert_eq!(said("0123abcd", &["a", "b"]), "commit 0123abcd, 2 paths changed since");
    }
}
