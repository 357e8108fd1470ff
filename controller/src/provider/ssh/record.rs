//! `<ca directory>/adopted/<id>.json`: the record of an adopted machine. All controllers of a fleet share the CA
//! directory, so they know the same machines.

use std::{fs, io, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    pki::files,
    provider::{Fingerprint, Host, HostState, ImageId, Kind, Usage},
};

/// Format version.
const VERSION: u32 = 1;

/// Parameters of an adoption.
#[derive(Debug)]
pub(crate) struct Adoption {
    /// Fleet that the machine joins.
    pub(crate) fleet: String,
    /// Role, such as `db`.
    pub(crate) role: String,
    /// `<role>-<n>`.
    pub(crate) name: String,
    /// Address of the agent.
    pub(crate) address: String,
    /// Enrolment transaction id.
    pub(crate) tid: String,
    /// Initial usage.
    pub(crate) usage: Usage,
    /// The enrol document, JSON.
    pub(crate) enrol_document: Vec<u8>,
}

/// Record of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    id: String,
    pub(super) name: String,
    pub(super) fleet: String,
    role: String,
    tid: String,
    /// Address to dial.
    address: String,
    /// The ssh destination, for display.
    adopted_over: String,
    /// Seconds since the Unix epoch.
    adopted_at: i64,
    pub(super) usage: Usage,
}

impl Record {
    pub(super) fn new(adoption: Adoption, adopted_over: String) -> Self {
        let digits: String = adoption.tid.chars().take(10).collect();
        Self {
            version: VERSION,
            id: format!("s-{digits}"),
            name: adoption.name,
            fleet: adoption.fleet,
            role: adoption.role,
            tid: adoption.tid,
            address: adoption.address,
            adopted_over,
            adopted_at: Timestamp::now().as_second(),
            usage: adoption.usage,
        }
    }

    /// All records, ordered by name; empty if the directory is missing.
    pub(super) fn all(directory: &Path) -> Result<Vec<Self>> {
        let unreadable = |error| Error::invalid(format!("cannot list {}: {error}", directory.display()));
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(unreadable)?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let name = entry.map_err(unreadable)?.file_name().into_string().unwrap_or_default();
            // Other names are half-written files.
            if let Some(id) = name.strip_suffix(".json") {
                records.push(Self::read(directory, id)?);
            }
        }
        records.sort_by(|one, other| (one.name.len(), &one.name).cmp(&(other.name.len(), &other.name)));
        Ok(records)
    }

    pub(super) fn read(directory: &Path, id: &str) -> Result<Self> {
        let path = directory.join(format!("{id}.json"));
        let shown = path.display();
        let text =
            fs::read(&path).map_err(|error| Error::invalid(format!("cannot read {shown}: {error}")))?;
        let damaged = |error| Error::invalid(format!("{shown} is damaged: {error}"));
        let record: Self = serde_json::from_slice(&text).map_err(damaged)?;
        if record.version == VERSION {
            return Ok(record);
        }
        let found = record.version;
        Err(Error::invalid(format!("{shown} has format {found}; this ctl reads format {VERSION}")))
    }

    /// Writes the record atomically.
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        files::directory(directory)?;
        let text = serde_json::to_vec_pretty(self).map_err(Error::invalid)?;
        files::replace(&directory.join(format!("{}.json", self.id)), &text)
    }

    /// Removes a record. No-op if it is gone.
    pub(super) fn remove(directory: &Path, id: &str) -> Result<()> {
        let path = directory.join(format!("{id}.json"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::invalid(format!("cannot remove {}: {error}", path.display())))
            }
            _ => Ok(()),
        }
    }
}

impl From<Record> for Host {
    fn from(record: Record) -> Self {
        Self {
            provider: Kind::Ssh,
            id: record.id,
            name: record.name,
            fleet: record.fleet,
            role: record.role,
            tid: record.tid,
            // Only the machine knows its state, and asking takes a connection.
            state: HostState::Running,
            address: record.address,
            image: ImageId::default(),
            memory: None,
            class: "ssh".to_owned(),
            spot: false,
            region: String::new(),
            launched_at: record.adopted_at,
            fingerprint: Fingerprint::default(),
            clone_of: None,
            usage: record.usage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(tid: &str, name: &str) -> Record {
        let adoption = Adoption {
            fleet: "f".into(),
            role: "db".into(),
            name: name.into(),
            address: "192.0.2.7".into(),
            tid: tid.into(),
            usage: Usage::default(),
            enrol_document: Vec::new(),
        };
        Record::new(adoption, "root@192.0.2.7".into())
    }

    #[test]
    fn records_come_back_in_the_order_of_their_numbers() {
        let ca = tempfile::tempdir().unwrap();
        let directory = ca.path().join("adopted");
        assert_eq!(Record::all(&directory).unwrap(), []);
        let (second, tenth) = (record("0123456789abcdef", "db-2"), record("fedcba9876543210", "db-10"));
        for record in [&tenth, &second] {
            record.write(&directory).unwrap();
        }
        assert_eq!(Record::all(&directory).unwrap(), [second.clone(), tenth]);
        assert_eq!(second.id, "s-0123456789");
        Record::remove(&directory, &second.id).unwrap();
        Record::remove(&directory, &second.id).unwrap();
        assert_eq!(Record::all(&directory).unwrap().len(), 1);
    }

    #[test]
    fn what_is_damaged_is_named() {
        let ca = tempfile::tempdir().unwrap();
        fs::write(ca.path().join("s-1.json"), "{").unwrap();
        let error = Record::all(ca.path()).unwrap_err().to_string();
        assert!(error.contains("s-1.json is damaged"), "{error}");
    }
}
