//! Connections to instances. While one boots, dialling finds out that it is up long before EC2 says so; EC2 is asked
//! only for what dialling cannot tell.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};

use super::{Inner, instance, pauses::Pauses};
use crate::provider::{Host, HostState, Stream, dial};

/// From the first question to EC2 to the longest pause between two.
const ASKING: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(15));

impl Inner {
    /// Connects to a port of a host, and gives up early if EC2 says that it has ended.
    pub(super) async fn dial_until(&self, host: &Host, port: u16, deadline: Instant) -> io::Result<Stream> {
        let (address, addresses) = watch::channel(host.address.clone());
        tokio::select! {
            connected = self.reach(addresses, port, deadline) => connected,
            error = self.watch(host, &address) => Err(error),
        }
    }

    /// Dials the newest address until it answers.
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
                return Err(io::Error::new(io::ErrorKind::TimedOut, "EC2 has given it no address"));
            };
            addresses.mark_unchanged();
            tokio::select! {
                connected = dial::to(&self.connect, &address, port, deadline) => return connected,
                Ok(()) = addresses.changed() => {}
            }
        }
    }

    /// Learns of new addresses, and ends when the host has. Trouble with EC2 itself is none here.
    async fn watch(&self, host: &Host, address: &watch::Sender<String>) -> io::Error {
        let mut pauses = Pauses::new(ASKING.0, ASKING.1);
        loop {
            pauses.pause().await;
            let Ok(region) = self.cloud.in_region(&host.region).await else { continue };
            let Ok(Some(found)) = self.describe(&region, &host.id).await else { continue };
            if instance::state(&found) != Some(HostState::Running) {
                return io::Error::new(io::ErrorKind::HostUnreachable, instance::reason(&found));
            }
            let now = instance::address(&found, self.settings.address);
            address.send_if_modified(|known| {
                let changed = *known != now;
                *known = now;
                changed
            });
        }
    }
}
