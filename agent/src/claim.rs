//! Who has this host. Several controllers may want it at once and share nothing else, so the host decides, and
//! remembers over restarts and reboots.
//!
//! [`decide`], [`extend`] and [`may_release`] are the rules; [`Store`] applies them one at a time to the file. That
//! lies within the identity, so that it goes where the identity goes: a clone is nobody's.

use std::{
    fs,
    io::{self, ErrorKind},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use prost::Message;
use proto::pb::{Claim, ClaimRequest};

use crate::{durable, paths::Paths, run::is_run_id};

/// The longest holder, in bytes.
const MAX_HOLDER: usize = 200;

/// Why a claim is not granted, changed or given back.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Somebody else has the host.
    #[error("held by {} since {} (claim {})", .0.user, clock(.0.taken_unix_ms), .0.id)]
    Held(Claim),
    /// There is nothing to extend.
    #[error("nobody has this host, so there is no lease to extend")]
    Nobody,
    /// The request says something that no claim can.
    #[error("{0}")]
    Invalid(&'static str),
    /// The stored claim cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The stored claim is none.
    #[error("{} is not readable as a claim; release the host, whoever has it, to be rid of that", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
    },
}

/// The time of day in UTC. Which day, and in whose time zone, is for those who have the claim itself.
fn clock(unix_ms: i64) -> String {
    let minutes = unix_ms.div_euclid(60_000);
    format!("{:02}:{:02} UTC", minutes.div_euclid(60).rem_euclid(24), minutes.rem_euclid(60))
}

/// Has the lease of a claim that is not settled run out? Then anybody may take the host.
fn has_lapsed(claim: &Claim, now_unix_ms: i64) -> bool {
    !claim.settled && claim.until_unix_ms < now_unix_ms
}

/// What `user` gets who asks while `present` stands.
///
/// # Errors
/// [`ClaimError::Held`] or [`ClaimError::Invalid`].
pub fn decide(
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
        return Err(ClaimError::Invalid("a claim says until when, in milliseconds since 1970"));
    }
    Ok(())
}

/// The present claim with its lease moved out to `until_unix_ms`, if that is later.
///
/// # Errors
/// [`ClaimError::Nobody`].
pub fn extend(present: Option<&Claim>, until_unix_ms: i64) -> Result<Claim, ClaimError> {
    let present = present.ok_or(ClaimError::Nobody)?;
    Ok(Claim { until_unix_ms: present.until_unix_ms.max(until_unix_ms), ..present.clone() })
}

/// May the claim `id`, or whichever it is if that is empty, be given back while `present` stands?
///
/// # Errors
/// [`ClaimError::Held`].
pub fn may_release(present: Option<&Claim>, id: &str) -> Result<(), ClaimError> {
    match present {
        Some(present) if !id.is_empty() && present.id != id => Err(ClaimError::Held(present.clone())),
        _ => Ok(()),
    }
}

/// The claim on disk. What a call says has happened is durable on its return; every call blocks on the disk.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// Held from reading what there is until what replaces it is there.
    alone: Mutex<()>,
}

impl Store {
    /// The claim of the host whose agent keeps things below `paths`. One store an agent.
    pub fn new(paths: &Paths) -> Self {
        Self { path: paths.claim(), alone: Mutex::default() }
    }

    /// Who has the host, be it that their lease is over.
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

    /// Takes the host for `user`, or changes their claim: see [`decide`].
    ///
    /// # Errors
    /// Any but [`ClaimError::Nobody`].
    pub fn claim(&self, request: &ClaimRequest, user: &str, now_unix_ms: i64) -> Result<Claim, ClaimError> {
        self.replace(|present| decide(present, request, user, now_unix_ms))
    }

    /// Moves the end of the lease out: see [`extend`].
    ///
    /// # Errors
    /// [`ClaimError::Nobody`], [`ClaimError::File`] or [`ClaimError::Corrupt`].
    pub fn extend(&self, until_unix_ms: i64) -> Result<Claim, ClaimError> {
        self.replace(|present| extend(present, until_unix_ms))
    }

    /// Gives the host back and returns the claim that it had; an empty `id` means whichever, were it unreadable.
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
