//! The host's status and the renewal of its certificate; `claims` has the calls that claim and release it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use nix::{
    sys::statvfs::statvfs,
    unistd::{SysconfVar, gethostname, sysconf},
};
use proto::{
    identity::User,
    pb::{
        Claim, ClaimRequest, ExtendRequest, LastApply, ReleaseReply, ReleaseRequest, RenewReply,
        RenewRequest, Run, RunState, StatusReply, StatusRequest, host_server::Host,
    },
    run::{apply, is_over, state_name},
    units::counted,
};
use tonic::{Request, Response, Status};

use super::{
    claims, history,
    runs::{self, Overview},
};
use crate::{
    claim,
    enrol::{EnrolError, identity::Identity, machine, renewal::Shown},
    limits::Memory,
    paths::Paths,
    run::unix_ms,
};

/// The status warns below this remaining lifetime: `ctl` normally renews the certificate long before.
const CERTIFICATE_SHORT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The service `magpie.v1.Host`.
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    host_id: String,
    fleet_id: String,
    paths: Paths,
    system: PathBuf,
    runs: runs::Service,
    claims: Arc<claim::Store>,
    shown: Arc<Shown>,
}

impl Service {
    /// The service for the host with `identity`; `system` is the root of the file system that describes the machine.
    pub fn new(
        identity: &Identity,
        paths: &Paths,
        system: &Path,
        runs: runs::Service,
        claims: Arc<claim::Store>,
        shown: Arc<Shown>,
    ) -> Self {
        let inner = Inner {
            host_id: identity.host_id.clone(),
            fleet_id: identity.fleet_id.clone(),
            paths: paths.clone(),
            system: system.to_owned(),
            runs,
            claims,
            shown,
        };
        Self { inner: Arc::new(inner) }
    }
}

impl Inner {
    /// The status that this user may see. Blocks on the disk.
    fn reply(&self, user: &User) -> StatusReply {
        let mut degraded = Vec::new();
        let memory = Memory::read(&self.paths, &self.system).unwrap_or_else(|error| {
            degraded.push(format!("cannot read the memory use: {error}"));
            Memory::default()
        });
        let disk_free_bytes = disk_free(self.paths.root()).unwrap_or_else(|error| {
            degraded.push(format!("cannot read the free disk space: {error}"));
            0
        });
        let runs = self.runs.overview(user).unwrap_or_else(|error| {
            degraded.push(format!("cannot read the runs: {error}"));
            Overview::default()
        });
        let claim = self.claims.present().unwrap_or_else(|error| {
            degraded.push(format!("cannot read this host's claim: {error}"));
            None
        });
        let recorder = history::recorder_status(&self.paths).ok();
        if !recorder.as_ref().is_some_and(|recorder| recorder.running) {
            degraded.push("the recorder is not running".to_owned());
        }
        degraded.extend(self.runs.degraded().map(str::to_owned));
        let applied = runs.last_apply.as_ref().and_then(apply);
        let until = self.shown.until();
        degraded.extend(certificate_short(until, SystemTime::now()));
        StatusReply {
            bundle: applied.map(|apply| apply.bundle.clone()).unwrap_or_default(),
            commit: applied.map(|apply| apply.commit.clone()).unwrap_or_default(),
            last_apply: runs.last_apply.as_ref().map(last_apply),
            active_run: runs.active.map(|run| run.run_id),
            recorder,
            host_id: self.host_id.clone(),
            fleet_id: self.fleet_id.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            boot_id: machine::boot_id(&self.system).unwrap_or_default(),
            uptime_s: uptime(&self.system).unwrap_or_default(),
            disk_free_bytes,
            degraded,
            memory_total_bytes: memory.total,
            memory_available_bytes: memory.available,
            claim,
            certificate_until_unix_ms: unix_ms(until),
        }
    }
}

#[tonic::async_trait]
impl Host for Service {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let user = runs::caller(&request)?;
        let inner = Arc::clone(&self.inner);
        Ok(Response::new(self.inner.runs.look(move || inner.reply(&user)).await?))
    }

    async fn claim(&self, request: Request<ClaimRequest>) -> Result<Response<Claim>, Status> {
        let (user, store) = (runs::caller(&request)?, Arc::clone(&self.inner.claims));
        claims::claim(store, user, request.into_inner()).await.map(Response::new)
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseReply>, Status> {
        let (user, store) = (runs::caller(&request)?, Arc::clone(&self.inner.claims));
        claims::release(store, user, request.into_inner()).await.map(Response::new)
    }

    async fn extend(&self, request: Request<ExtendRequest>) -> Result<Response<Claim>, Status> {
        claims::extend(Arc::clone(&self.inner.claims), request.into_inner()).await.map(Response::new)
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        let user = runs::caller(&request)?;
        let shown = Arc::clone(&self.inner.shown);
        let certificate = request.into_inner().certificate;
        let renewed = runs::blocking(move || shown.renew(&certificate, SystemTime::now())).await?;
        let until_unix_ms = unix_ms(renewed.map_err(not_renewed)?);
        tracing::info!(user = user.name, until_unix_ms, "the certificate was renewed");
        Ok(Response::new(RenewReply { until_unix_ms }))
    }
}

/// The warning that the certificate expires soon.
fn certificate_short(until: SystemTime, now: SystemTime) -> Option<String> {
    let left = until.duration_since(now).unwrap_or_default();
    (left < CERTIFICATE_SHORT).then(|| {
        format!(
            "this host's certificate expires in {}: `ctl` renews it when an operator who has host-ca.key connects",
            counted(left.as_secs() / (24 * 60 * 60), "day")
        )
    })
}

/// INTERNAL for the host's own errors, INVALID_ARGUMENT if the certificate is wrong.
fn not_renewed(error: EnrolError) -> Status {
    let sentence = error.to_string();
    match error {
        EnrolError::File { .. } | EnrolError::Crypto(_) => Status::internal(sentence),
        _ => Status::invalid_argument(sentence),
    }
}

fn last_apply(run: &Run) -> LastApply {
    // Without an end state, the supervisor was killed before the run had ended.
    let state = if is_over(run.state()) { run.state() } else { RunState::Interrupted };
    LastApply {
        run_id: run.run_id.clone(),
        state: state_name(state).into(),
        finished_unix_ms: run.finished_unix_ms,
    }
}

/// Seconds since this host's init started: since boot, or since a container started. proc_uptime(5) counts for the
/// whole machine; field 22 of /proc/1/stat is the start of init in clock ticks on the same clock.
fn uptime(system: &Path) -> Option<u64> {
    let text = fs::read_to_string(system.join("proc/uptime")).ok()?;
    let machine: u64 = text.split(['.', ' ']).next()?.parse().ok()?;
    let stat = fs::read_to_string(system.join("proc/1/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let started: u64 = after_name.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let ticks = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    Some(machine.saturating_sub(started / ticks))
}

/// Bytes that an unprivileged process can still write.
fn disk_free(path: &Path) -> nix::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_warns_a_month_before_the_certificate_expires() {
        let (now, day) = (SystemTime::UNIX_EPOCH, Duration::from_secs(24 * 60 * 60));
        assert_eq!(certificate_short(now + 30 * day, now), None);
        let warning = certificate_short(now + 12 * day + day / 2, now).expect("a warning");
        assert!(warning.starts_with("this host's certificate expires in 12 days: "), "{warning}");
        assert!(certificate_short(now + day, now).is_some_and(|warning| warning.contains("in 1 day:")));
        assert!(certificate_short(now, now + day).is_some_and(|warning| warning.contains("in 0 days")));
    }
}
