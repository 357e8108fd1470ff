//! Waits for a valid enrol document, in a file or in an instance's user-data.

use std::{
    fs::{self, DirBuilder},
    io::{self, ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    time::{Duration, SystemTime},
};

use inotify::{EventStream, Inotify, WatchMask};
use proto::identity::{document::Document, userdata};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;
use zeroize::Zeroizing;

use super::{EnrolError, console::Console, metadata::Metadata};
use crate::paths::Paths;

/// Maximum length of a document, in bytes.
const MAX_LENGTH: u64 = 4096;

/// How often the document is read again without a change event.
const RECHECK: Duration = Duration::from_secs(30);

/// Space for many events, each with a file name (inotify(7)).
type Buffer = [u8; 4096];

/// Reads the enrol document; `None` if the file is missing.
///
/// # Errors
/// If the document is unreadable, accessible to other users, malformed, or expired.
pub fn read(paths: &Paths, now: SystemTime) -> Result<Option<Document>, EnrolError> {
    let path = paths.enrol_document();
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(EnrolError::file(path)(error)),
    };
    let mode = file.metadata().map_err(EnrolError::file(&path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(EnrolError::Exposed { path, mode });
    }
    let mut json = Zeroizing::new(Vec::new());
    file.take(MAX_LENGTH).read_to_end(&mut json).map_err(EnrolError::file(path))?;
    good(&json, now).map(Some)
}

fn good(json: &[u8], now: SystemTime) -> Result<Document, EnrolError> {
    let document = Document::from_json(json)?;
    document.check(now)?;
    Ok(document)
}

/// Waits until there is a valid document; a file takes precedence over user-data. Reports an invalid document on the
/// console.
///
/// # Errors
/// If the agent's directory cannot be created or watched.
pub async fn wait(
    paths: &Paths,
    metadata: Option<&Metadata>,
    console: &Console,
) -> Result<Document, EnrolError> {
    let told = async {
        match metadata {
            Some(metadata) => in_user_data(metadata, console).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        document = in_file(paths, console) => document,
        document = told => Ok(document),
    }
}

/// Waits until the user-data holds a valid document. EC2 allows changes to user-data only while the instance is
/// stopped, but the clock may change, and the metadata service may not have been ready at first.
async fn in_user_data(metadata: &Metadata, console: &Console) -> Document {
    let mut changes = console.changes();
    loop {
        let user_data = metadata.user_data(&mut changes).await.unwrap_or_default();
        let document = userdata::enrol_document(&user_data).map_err(EnrolError::from);
        match document.and_then(|json| json.map(|json| good(json, SystemTime::now())).transpose()) {
            Ok(Some(document)) => return document,
            Ok(None) => changes.say("MAGPIE-ENROL v1 waiting: there is no enrol document in the user-data"),
            Err(error) => changes.say(&format!("MAGPIE-ENROL v1 error: {error}")),
        }
        sleep(RECHECK).await;
    }
}

async fn in_file(paths: &Paths, console: &Console) -> Result<Document, EnrolError> {
    let root = paths.root();
    DirBuilder::new().recursive(true).mode(0o711).create(root).map_err(EnrolError::file(root))?;
    // Watch before the first read, so that no document can appear unnoticed in between.
    let mut changes = watch(root).map_err(EnrolError::file(root))?;
    let mut said = false;
    loop {
        match read(paths, SystemTime::now()) {
            Ok(Some(document)) => return Ok(document),
            Ok(None) if !said => tracing::info!("waiting for {}", paths.enrol_document().display()),
            Err(error) if !said => console.say(&format!("MAGPIE-ENROL v1 error: {error}")),
            _ => (),
        }
        // Read again from time to time: a change of the clock may make a document valid or invalid.
        let change = timeout(RECHECK, changed(&mut changes, paths)).await;
        said = change.is_err();
        change.unwrap_or(Ok(())).map_err(EnrolError::file(root))?;
    }
}

/// Waits for a change of the document.
async fn changed(changes: &mut EventStream<Buffer>, paths: &Paths) -> io::Result<()> {
    let path = paths.enrol_document();
    loop {
        let event = changes.next().await.ok_or(ErrorKind::UnexpectedEof)??;
        // An event without a name is about the directory, or reports lost events.
        if event.name.is_none() || event.name.as_deref() == path.file_name() {
            return Ok(());
        }
    }
}

fn watch(root: &Path) -> io::Result<EventStream<Buffer>> {
    let inotify = Inotify::init()?;
    inotify.watches().add(root, WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::ATTRIB)?;
    inotify.into_event_stream([0; 4096])
}
