//! The status of a host, and error messages for refused or failed calls.

use std::{error::Error as _, time::Duration};

use proto::pb::{StatusReply, StatusRequest, host_client::HostClient};
use tokio::time::timeout;
use tonic::{Code, Response, Status, transport::Channel};

use super::handshake::{self, Purpose};
use crate::{
    error::{Error, Kind},
    pki,
};

/// Time limit for a host to answer a call, or to begin a stream. A host that hangs or is compromised must not block
/// `ctl`.
pub const ANSWER: Duration = Duration::from_secs(20);
/// Time limit for calls with large requests, which may be slow to send.
pub const LONG_ANSWER: Duration = Duration::from_secs(120);

/// Asks a host for its status.
///
/// # Errors
/// The host cannot be reached, or rejects our certificate or role.
pub async fn ask(channel: Channel, host_name: &str) -> crate::error::Result<StatusReply> {
    let reply = within(ANSWER, HostClient::new(channel).status(StatusRequest {})).await;
    reply.map_err(|status| error(host_name, &status))
}

/// The answer to a call, or [`Code::DeadlineExceeded`] if it is not complete within `limit`.
pub async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {} s", limit.as_secs()))),
    }
}

/// The error for a call to `host_name` that ended with `status`.
pub fn error(host_name: &str, status: &Status) -> Error {
    describe(status).context(host_name)
}

fn describe(status: &Status) -> Error {
    // A lost connection also ends in a status; a TLS alert below it is more specific.
    if let Some(rustls::Error::AlertReceived(alert)) = status.source().and_then(handshake::tls_error) {
        return handshake::refused(*alert, Purpose::Main);
    }
    let message = status.message();
    match status.code() {
        Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::OutOfRange => {
            Error::invalid(message)
        }
        Code::PermissionDenied => Error::invalid(message).hint(pki::OTHER_ROLE),
        Code::Unimplemented => Error::invalid(message)
            .hint("agent and ctl are probably different versions: `ctl status` shows the agent's version"),
        Code::FailedPrecondition => Error::new(Kind::Busy, message),
        Code::ResourceExhausted => Error::new(Kind::RunFailed, message),
        Code::Cancelled | Code::Aborted => {
            Error::new(Kind::Interrupted, or(message, "the call was cancelled"))
        }
        Code::DeadlineExceeded => Error::unreachable(or(message, "the host did not answer in time")),
        Code::Unavailable => Error::unreachable(or(message, "the connection to the host was lost")),
        Code::Unauthenticated => Error::unreachable(message),
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => {
            Error::new(Kind::RunFailed, format!("the agent failed: {message}"))
                .hint("the agent's journal on the host shows more: journalctl -u magpie-agent")
        }
    }
}

fn or<'a>(message: &'a str, otherwise: &'a str) -> &'a str {
    if message.is_empty() { otherwise } else { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_kind_and_names_the_host() {
        let kinds = [
            (Status::invalid_argument("m"), Kind::Invalid),
            (Status::permission_denied("m"), Kind::Invalid),
            (Status::failed_precondition("m"), Kind::Busy),
            (Status::unavailable("m"), Kind::Unreachable),
            (Status::deadline_exceeded("m"), Kind::Unreachable),
            (Status::cancelled("m"), Kind::Interrupted),
            (Status::internal("m"), Kind::RunFailed),
        ];
        for (status, kind) in kinds {
            let error = error("db-1", &status);
            assert_eq!(error.kind(), kind, "{status}");
            assert!(error.to_string().starts_with("db-1: "), "{error}");
            assert!(error.to_string().ends_with('m'), "{error}");
        }
    }

    #[tokio::test]
    async fn a_host_that_never_answers_times_out() {
        let never = std::future::pending::<Result<Response<()>, Status>>();
        let status = within(Duration::ZERO, never).await.unwrap_err();
        let error = error("db-1", &status);
        assert_eq!(
            (error.kind(), error.to_string()),
            (Kind::Unreachable, "db-1: no answer within 0 s".into())
        );
    }

    #[test]
    fn an_empty_message_becomes_a_sentence() {
        assert_eq!(
            error("db-1", &Status::unavailable("")).to_string(),
            "db-1: the connection to the host was lost"
        );
    }

    #[test]
    fn the_tls_alert_behind_a_lost_connection_is_reported() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired);
        let status = Status::from_error(Box::new(std::io::Error::other(alert)));
        assert!(error("db-1", &status).to_string().contains("certificate has expired"));
    }
}
