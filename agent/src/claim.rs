//! The claim on this host. Controllers share nothing else, so the host itself decides between them and remembers
//! its decision over restarts and reboots.
//!
//! [`decide`], [`extend`] and [`may_release`] are the rules; [`Store`] applies them to the file, one call at a time.
//! The file is part of the identity directory and is quarantined with it, so a clone starts without a claim.

use std::{
    fs,
    io::{self, ErrorKind},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use prost::Message;
use proto::pb::{Claim, ClaimRequest};

use crate::{durable, paths::Paths, run::is_run_id};

/// Maximum length of a holder, in bytes.
const MAX_HOLDER: usize = 200;

/// Why a claim is not granted, changed or released.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another claim is in force.
    #[error("held by {} since {} (claim {})", .0.user, clock(.0.taken_unix_ms), .0.id)]
    Held(Claim),
    /// There is no claim to extend.
    #[error("this host is not claimed, so there is no lease to extend")]
    Nobody,
    /// The request is malformed.
    #[error("{0}")]
    Invalid(&'static str),
    /// The stored claim cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Path of the claim file.
        path: PathBuf,
        /// The error of the file operation.
        source: io::Error,
    },
    /// The stored claim is malformed.
    #[error("{} is not a valid claim; clear it with `ctl release --force HOST`", path.display())]
    Corrupt {
        /// Path of the claim file.
        path: PathBuf,
    },
}

/// The time of day in UTC; the message omits the date.
fn clock(unix_ms: i64) -> String {
    let minutes = unix_ms.div_euclid(60_000);
    format!("{:02}:{:02} UTC", minutes.div_euclid(60).rem_euclid(24), minutes.rem_euclid(60))
}

/// Whether the lease of an unsettled claim has expired, so that anyone may claim the host.
fn has_lapsed(claim: &Claim, now_unix_ms: i64) -> bool {
    !claim.settled && claim.until_unix_ms < now_unix_ms
}

/// The claim that `user` gets if `present` is the current one.
///
/// # Errors
/// [`ClaimError::Held`] or [`ClaimError::Invalid`].
pub(crate) fn decide(
    present: Option<&Claim>,
    request: &ClaimRequest,
    user: &str,
    now_unix_ms: i64,
) -> Result<Claim, ClaimError> {
    check(request)?;
    let own = present.filter(|claim| claim.id == request.id);
    let free = present
        .is_none_or(|claim| own.is_some() || claim.id == request.replaces || has_lapsed(claim, now_unix_ms));
    match present {
        Some(present) if !free => Err(ClaimError::Held(present.clone())),
        _ => Ok(Claim {
            id: request.id.clone(),
            user: user.to_owned(),
            holder: request.holder.clone(),
            taken_unix_ms: own.map_or(now_unix_ms, |claim| claim.taken_unix_ms),
            until_unix_ms: request.until_unix_ms,
            settled: request.settled,
            stop_after_s: request.stop_after_s,
        }),
    }
}

fn check(request: &ClaimRequest) -> Result<(), ClaimError> {
    if !is_run_id(&request.id) {
        return Err(ClaimError::Invalid("a claim's id is 1 to 64 characters of [a-z0-9-]"));
    }
    if request.holder.len() > MAX_HOLDER || request.holder.contains(char::is_control) {
        return Err(ClaimError::Invalid("a claim's holder is at most 200 bytes without control characters"));
    }
    if request.until_unix_ms <= 0 {
        return Err(ClaimError::Invalid("a claim needs an end time, in milliseconds since 1970"));
    }
    Ok(())
}

/// The current claim with its lease extended to `until_unix_ms`; an earlier time changes nothing.
///
/// # Errors
/// [`ClaimError::Nobody`].
pub(crate) fn extend(present: Option<&Claim>, until_unix_ms: i64) -> Result<Claim, ClaimError> {
    let present = present.ok_or(ClaimError::Nobody)?;
    Ok(Claim { until_unix_ms: present.until_unix_ms.max(until_unix_ms), ..present.clone() })
}

/// Checks whether claim `id` may be released; an empty `id` means any claim.
///
/// # Errors
/// [`ClaimError::Held`].
pub(crate) fn may_release(present: Option<&Claim>, id: &str) -> Result<(), ClaimError> {
    match present {
        Some(present) if !id.is_empty() && present.id != id => Err(ClaimError::Held(present.clone())),
        _ => Ok(()),
    }
}

/// The claim on disk. All changes are durable on return; all calls block on the disk.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// Held from reading the old claim until the new one is stored.
    alone: Mutex<()>,
}

impl Store {
    /// The claim store below `paths`. An agent has only one store.
    pub fn new(paths: &Paths) -> Self {
        Self { path: paths.claim(), alone: Mutex::default() }
    }

    /// The current claim, even if its lease has expired.
    ///
    /// # Errors
    /// [`ClaimError::File`] or [`ClaimError::Corrupt`].
    pub fn present(&self) -> Result<Option<Claim>, ClaimError> {
        match fs::read(&self.path) {
            Ok(bytes) => match Claim::decode(bytes.as_slice()) {
                Ok(claim) if is_run_id(&claim.id) => Ok(Some(claim)),
                _ => Err(ClaimError::Corrupt { path: self.path.clone() }),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.failed(source)),
        }
    }

    /// Claims the host for `user`, or changes the user's claim: see [`decide`].
    ///
    /// # Errors
    /// Any error except [`ClaimError::Nobody`].
    pub fn claim(&self, request: &ClaimRequest, user: &str, now_unix_ms: i64) -> Result<Claim, ClaimError> {
        self.replace(|present| decide(present, request, user, now_unix_ms))
    }

    /// Extends the lease: see [`extend`].
    ///
    /// # Errors
    /// [`ClaimError::Nobody`], [`ClaimError::File`] or [`ClaimError::Corrupt`].
    pub fn extend(&self, until_unix_ms: i64) -> Result<Claim, ClaimError> {
        self.replace(|present| extend(present, until_unix_ms))
    }

    /// Releases the host and returns its claim; an empty `id` releases any claim, even a malformed one.
    ///
    /// # Errors
    /// [`ClaimError::Held`], [`ClaimError::File`] or [`ClaimError::Corrupt`].
    pub fn release(&self, id: &str) -> Result<Option<Claim>, ClaimError> {
        let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let had = match self.present() {
            Err(ClaimError::Corrupt { .. }) if id.is_empty() => None,
            present => present?,
        };
        may_release(had.as_ref(), id)?;
        match fs::remove_file(&self.path).and_then(|()| durable::sync_parent(&self.path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(had),
        }
    }

    fn replace(
        &self,
        rule: impl FnOnce(Option<&Claim>) -> Result<Claim, ClaimError>,
    ) -> Result<Claim, ClaimError> {
        let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let claim = rule(self.present()?.as_ref())?;
        durable::write(&self.path, &claim.encode_to_vec()).map_err(|source| self.failed(source))?;
        Ok(claim)
    }

    fn failed(&self, source: io::Error) -> ClaimError {
        ClaimError::File { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests;
