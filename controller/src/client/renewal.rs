//! Renews a host's certificate automatically, whenever a `ctl` that can sign it connects.

use std::time::{Duration, SystemTime};

use proto::{
    identity::{Role, certificate::HostCertificate},
    pb::{RenewRequest, host_client::HostClient},
};
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::pki::Fleet;

/// A certificate with less time left is renewed. Certificates last 90 days.
const SHORT: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// Time limit, so that a renewal does not delay the actual command for long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Renews the certificate `shown` by the host at the other end of `channel`, if it expires soon and the user may and
/// can renew it. Failures are ignored: they do not affect the command, and the host's status shows the expiry in time.
pub(super) async fn in_passing(
    channel: Channel,
    fleet: &Fleet,
    role: Role,
    host_id: &str,
    shown: &HostCertificate,
) {
    let now = SystemTime::now();
    if role < Role::Operator || shown.not_after > now + SHORT || !fleet.signs_hosts() {
        return;
    }
    if let Ok(certificate) = fleet.renew_host(shown, host_id, now) {
        let request = RenewRequest { certificate: certificate.to_vec() };
        let _ = timeout(PATIENCE, HostClient::new(channel).renew(request)).await;
    }
}
