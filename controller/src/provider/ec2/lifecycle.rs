//! Start, stop and terminate. All are safe to repeat, and wait while EC2 is not consistent yet.

use std::time::{Duration, Instant};

use aws_sdk_ec2::types::{Instance, InstanceStateName};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    cloud::Region,
    failure::Failure,
    inner::Inner,
    instance, request,
    settling::{is_early, known, pauses},
    tags,
};
use crate::{
    config::Address,
    error::{Error, Result},
    provider::{Host, HostState},
};

/// Timeout for a host to stop, including the time until it may be stopped.
const DOWN: Duration = Duration::from_secs(300);
/// Timeout for a host to get its address.
const ADDRESS: Duration = Duration::from_secs(60);

impl Inner {
    /// Stores name and usage in the tags.
    pub(super) async fn mark(&self, host: &Host) -> Result<()> {
        let region = self.cloud.in_region(&host.region).await?;
        let request = region
            .client
            .create_tags()
            .resources(&host.id)
            .set_tags(Some(request::list(&tags::of_mark(host))));
        known(host, || async { request.clone().send().await.map(drop).map_err(Failure::from) })
            .await
            .map_err(|failure| region.explain("CreateTags", &failure).context_once(&host.name))
    }

    /// Boots a stopped host; waits first if the host is still stopping.
    pub(super) async fn start(&self, host: &Host) -> Result<Host> {
        let region = self.cloud.in_region(&host.region).await?;
        let (deadline, mut pauses) = (Instant::now() + DOWN, pauses());
        loop {
            match region.client.start_instances().instance_ids(&host.id).send().await.map_err(Failure::from) {
                Ok(_) => break,
                Err(failure) if is_early(host, &failure) && Instant::now() < deadline => {
                    self.alive(&region, host).await?;
                    pauses.pause().await;
                }
                Err(failure) => {
                    return Err(region.explain("StartInstances", &failure).context_once(&host.name));
                }
            }
        }
        let host = Host { state: HostState::Running, ..host.clone() };
        match self.settings.address {
            // The private address stays the same.
            Address::Private if !host.address.is_empty() => Ok(host),
            _ => self.with_address(&region, host).await,
        }
    }

    /// Waits for the address; a public address changes with each start.
    async fn with_address(&self, region: &Region, host: Host) -> Result<Host> {
        let (deadline, mut pauses) = (Instant::now() + ADDRESS, pauses());
        loop {
            let found = self.alive(region, &host).await?;
            let address = instance::address(&found, self.settings.address);
            if !address.is_empty() || Instant::now() >= deadline {
                return Ok(Host { address, ..host });
            }
            pauses.pause().await;
        }
    }

    /// Shuts a host down and waits until it has stopped.
    pub(super) async fn stop(&self, host: &Host) -> Result<()> {
        let region = self.cloud.in_region(&host.region).await?;
        let (deadline, mut pauses) = (Instant::now() + DOWN, pauses());
        let mut accepted = false;
        loop {
            if !accepted {
                match region
                    .client
                    .stop_instances()
                    .instance_ids(&host.id)
                    .send()
                    .await
                    .map_err(Failure::from)
                {
                    Ok(reply) => {
                        let state =
                            reply.stopping_instances().first().and_then(|change| change.current_state());
                        if state.and_then(|state| state.name()) == Some(&InstanceStateName::Stopped) {
                            return Ok(());
                        }
                        accepted = true;
                    }
                    // The host has just been launched or started.
                    Err(failure) if is_early(host, &failure) => {}
                    Err(failure) => {
                        return Err(region.explain("StopInstances", &failure).context_once(&host.name));
                    }
                }
            }
            pauses.pause().await;
            let found = self.alive(&region, host).await?;
            if instance::state(&found) == Some(HostState::Stopped) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::unreachable(format!(
                    "{} does not stop: {}",
                    host.name,
                    instance::reason(&found)
                ))
                .hint(format!("`ctl stop {0}` waits longer; `ctl destroy {0}` terminates it", host.name)));
            }
        }
    }

    /// Terminates a host. No-op if it is gone.
    pub(super) async fn destroy(&self, host: &Host) -> Result<()> {
        let region = self.cloud.in_region(&host.region).await?;
        if host.spot {
            self.cancel_spot(&region, host).await?;
        }
        let request = region.client.terminate_instances().instance_ids(&host.id);
        match known(host, || async { request.clone().send().await.map(drop).map_err(Failure::from) }).await {
            Err(failure) if !failure.is_not_found() => {
                Err(region.explain("TerminateInstances", &failure).context_once(&host.name))
            }
            _ => Ok(()),
        }
    }

    /// Must run before the termination: EC2 would launch another instance for an open request.
    async fn cancel_spot(&self, region: &Region, host: &Host) -> Result<()> {
        let found = self.describe(region, &host.id).await?;
        let Some(request) = found.as_ref().and_then(Instance::spot_instance_request_id) else {
            return Ok(());
        };
        let cancelled =
            region.client.cancel_spot_instance_requests().spot_instance_request_ids(request).send().await;
        match cancelled.map_err(Failure::from) {
            Err(failure) if !failure.code.ends_with(".NotFound") => {
                Err(region.explain("CancelSpotInstanceRequests", &failure).context_once(&host.name))
            }
            _ => Ok(()),
        }
    }

    /// Output of the host's console.
    pub(super) async fn console(&self, host: &Host) -> Result<String> {
        let region = self.cloud.in_region(&host.region).await?;
        let request = region.client.get_console_output().instance_id(&host.id);
        let reply = match request.clone().latest(true).send().await.map_err(Failure::from) {
            // Older instance types have no latest output, only that of some minutes ago.
            Err(failure)
                if failure.code == "UnsupportedOperation"
                    || failure.code == "InvalidParameterCombination" =>
            {
                request.send().await.map_err(Failure::from)
            }
            other => other,
        };
        let reply =
            reply.map_err(|failure| region.explain("GetConsoleOutput", &failure).context_once(&host.name))?;
        let encoded: String =
            reply.output().unwrap_or_default().split_ascii_whitespace().collect::<Vec<_>>().concat();
        // EC2 cuts long output at its beginning, never within a base64 group.
        let bytes = STANDARD.decode(encoded).unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
