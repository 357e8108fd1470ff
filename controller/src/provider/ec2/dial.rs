//! Connections to instances. While one boots, dialling finds out that it is up long before EC2 says so; EC2 is asked
//! only for what dialling cannot tell.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::{
    io::AsyncReadExt,
    sync::watch,
    time::{sleep, timeout},
};

use super::{Inner, instance, pauses::Pauses};
use crate::provider::{Host, HostState, Stream, dial};

/// From the first question to EC2 to the longest pause between two.
const ASKING: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(15));
/// Between two starts of a proxy command.
const PROXY_PAUSE: Duration = Duration::from_secs(1);
/// A proxy command that has not failed within a part of the caller's patience is connected, at the latest after this.
const PROXY_PROOF: Duration = Duration::from_millis(1500);
/// The part.
const PROXY_PART: u32 = 20;

impl Inner {
    /// Connects to a port of a host, and gives up early if EC2 says that it has ended.
    pub(super) async fn dial_until(&self, host: &Host, port: u16, deadline: Instant) -> io::Result<Stream> {
        let (address, addresses) = watch::channel(host.address.clone());
        tokio::select! {
            connected = self.connect(addresses, port, deadline) => connected,
            error = self.watch(host, &address) => Err(error),
        }
    }

    /// Dials the newest address until it answers.
    async fn connect(
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
                connected = self.dial(&address, port, deadline) => return connected,
                Ok(()) = addresses.changed() => {}
            }
        }
    }

    async fn dial(&self, address: &str, port: u16, deadline: Instant) -> io::Result<Stream> {
        match &self.proxy {
            None => dial::tcp_until(address, port, deadline).await,
            Some(command) => through_until(command, address, port, deadline).await,
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

/// Starts the command again and again. That nobody listens shows as its end, soon after it was started.
async fn through_until(command: &str, host: &str, port: u16, deadline: Instant) -> io::Result<Stream> {
    let proof = (deadline.saturating_duration_since(Instant::now()) / PROXY_PART).min(PROXY_PROOF);
    loop {
        let mut stream = dial::through(command, host, port)?;
        // The host does not speak first: any byte and any end is the command's.
        match timeout(proof, stream.read(&mut [0; 1])).await {
            Err(_still_open) => return Ok(stream),
            Ok(_) if Instant::now() + PROXY_PAUSE >= deadline => {
                let text = format!("the proxy command ends at once: {command}");
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, text));
            }
            Ok(_) => sleep(PROXY_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_proxy_that_ends_is_started_again() {
        let root = tempfile::tempdir().expect("a directory");
        let flag = root.path().join("flag");
        // Fails the first time, and is a connection the second.
        let command = format!("sh -c 'test -e {0} && exec cat; touch {0}; exit 1'", flag.display());
        let deadline = Instant::now() + Duration::from_secs(4);
        assert!(through_until(&command, "h", 1, deadline).await.is_ok());
    }

    #[tokio::test]
    async fn a_proxy_that_always_ends_is_an_error_in_time() {
        let start = Instant::now();
        let error =
            through_until("false", "h", 1, start + Duration::from_secs(1)).await.err().expect("an end");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
