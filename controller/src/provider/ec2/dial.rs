//! Connections to instances. Dialling shows that an instance is up long before EC2 does, so EC2 is asked only for a new
//! address, and whether the instance has ended.

use std::{
    io,
    sync::{MutexGuard, PoisonError},
    time::Instant,
};

use tokio::{sync::watch, time::timeout};

use super::{
    inner::Inner,
    instance,
    looks::{Looks, asking},
};
use crate::provider::{Host, HostState, Stream, dial};

impl Inner {
    /// Connects to a port of a host; gives up early if EC2 reports that the host has ended.
    ///
    /// A proxy command connects at once and only later shows whether the host is reachable. Callers retry until then,
    /// so EC2 is asked first on some of these calls.
    pub(super) async fn dial_until(&self, host: &Host, port: u16, deadline: Instant) -> io::Result<Stream> {
        let (address, addresses) = watch::channel(host.address.clone());
        if self.connect.proxy.is_some() && self.looks().is_due(&host.id, Instant::now()) {
            self.look(host, &address).await?;
        }
        tokio::select! {
            connected = self.reach(addresses, port, deadline) => connected,
            error = self.watch(host, &address) => Err(error),
        }
    }

    /// Dials the latest address until the deadline.
    async fn reach(
        &self,
        mut addresses: watch::Receiver<String>,
        port: u16,
        deadline: Instant,
    ) -> io::Result<Stream> {
        let patience = deadline.saturating_duration_since(Instant::now());
        loop {
            let known = timeout(patience, addresses.wait_for(|address| !address.is_empty())).await;
            let Ok(Ok(address)) = known.map(|known| known.map(|address| address.clone())) else {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "EC2 has not assigned it an address"));
            };
            addresses.mark_unchanged();
            tokio::select! {
                connected = dial::to(&self.connect, &address, port, deadline) => return connected,
                Ok(()) = addresses.changed() => {}
            }
        }
    }

    /// Updates `address`; returns an error once the host has ended.
    async fn watch(&self, host: &Host, address: &watch::Sender<String>) -> io::Error {
        let mut pauses = asking();
        loop {
            pauses.pause().await;
            if let Err(ended) = self.look(host, address).await {
                return ended;
            }
        }
    }

    /// Fails if the host has ended, else updates `address`. Errors of EC2 itself are ignored.
    async fn look(&self, host: &Host, address: &watch::Sender<String>) -> io::Result<()> {
        let Ok(region) = self.cloud.in_region(&host.region).await else { return Ok(()) };
        let Ok(Some(found)) = self.describe(&region, &host.id).await else { return Ok(()) };
        if instance::state(&found) != Some(HostState::Running) {
            return Err(io::Error::new(io::ErrorKind::HostUnreachable, instance::reason(&found)));
        }
        let now = instance::address(&found, self.settings.address);
        address.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        Ok(())
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
