//! A host's certificate is renewed in passing, by any `ctl` that connects and can: nobody has to think of it.

use std::time::{Duration, SystemTime};

use proto::{
    identity::{Role, certificate::HostCertificate},
    pb::{RenewRequest, host_client::HostClient},
};
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::pki::Fleet;

/// With less left a certificate is renewed: of 90 days, so that who connects once in two months keeps a host alive.
const SHORT: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// What this may cost of the time of somebody who came for something else.
const PATIENCE: Duration = Duration::from_secs(5);

/// Renews the certificate that the host at the other end of `channel` has shown, if it ends soon and we may and can. Whether
/// it worked makes no difference to what one came for, and what is wrong shows in the host's status in time.
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
