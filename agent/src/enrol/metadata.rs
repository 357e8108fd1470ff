//! Client of EC2's instance metadata service, version 2: reads the instance's id and its user-data.
//!
//! Only version 2 is supported: PUT for a token, which no simple request forgery can send, then GET with that token
//! (EC2 user guide, "Use the Instance Metadata Service"). A service that answers without a token is not used.

use std::{fmt, io, str::FromStr, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header::HOST};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proto::identity::userdata;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use zeroize::Zeroizing;

use super::console::Changes;

/// Timeout of one request, including the connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lifetime of a token, in seconds; each is used for one request.
const TOKEN_TTL: HeaderValue = HeaderValue::from_static("60");

/// Maximum length of a token or id, in bytes; EC2's have 56 and 19.
const MAX_WORD: usize = 512;

/// Initial and maximum pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Address of the metadata service: `http://169.254.169.254` on EC2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    host: String,
    port: u16,
}

/// Why a request to the metadata service failed.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The connection failed or broke.
    #[error("the metadata service at {at} cannot be reached: {source}")]
    Unreachable {
        /// Host and port.
        at: String,
        /// The error of the connection.
        source: io::Error,
    },
    /// The service does not speak HTTP.
    #[error("the metadata service at {at} does not speak HTTP: {source}")]
    Protocol {
        /// Host and port.
        at: String,
        /// The error of the HTTP client.
        source: hyper::Error,
    },
    /// The service answers, but returns no token.
    #[error("the metadata service gives no token (it answers {0}); the agent supports only version 2")]
    NoToken(StatusCode),
    /// The service refuses the request.
    #[error("the metadata service answers {status} to {path}")]
    Status {
        /// The requested path.
        path: &'static str,
        /// The status of the answer.
        status: StatusCode,
    },
    /// The answer is too long or malformed.
    #[error("the metadata service's answer to {path} is malformed: {reason}")]
    Malformed {
        /// The requested path.
        path: &'static str,
        /// What is wrong with the answer.
        reason: &'static str,
    },
}

/// The URL is not one of a metadata service.
#[derive(Debug, thiserror::Error)]
#[error("expected a URL such as http://169.254.169.254")]
pub struct BadUrl;

impl FromStr for Metadata {
    type Err = BadUrl;

    fn from_str(url: &str) -> Result<Self, BadUrl> {
        let uri: Uri = url.parse().map_err(|_| BadUrl)?;
        let is_bare = uri.path() == "/" && uri.query().is_none();
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        match (uri.scheme_str(), authority) {
            (Some("http"), Some(authority)) if is_bare => {
                Ok(Self { host: authority.host().to_owned(), port: authority.port_u16().unwrap_or(80) })
            }
            _ => Err(BadUrl),
        }
    }
}

impl fmt::Display for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Metadata {
    /// The id of this instance; retries until the service answers. Reports each error once, and again when it changes.
    pub async fn instance_id(&self, changes: &mut Changes<'_>) -> String {
        let mut pauses = Pauses::default();
        loop {
            let error = match self.ask_instance_id().await {
                Ok(id) => return id,
                Err(error) => error,
            };
            changes.say(&format!("MAGPIE-ENROL v1 error: {error}"));
            sleep(pauses.after(&error)).await;
        }
    }

    /// The instance's user-data, if any; retries until the service answers, as above. It may contain a token, which is
    /// secret.
    pub async fn user_data(&self, changes: &mut Changes<'_>) -> Option<Zeroizing<Vec<u8>>> {
        let mut pauses = Pauses::default();
        loop {
            let error = match self.ask_user_data().await {
                Ok(user_data) => return user_data,
                Err(error) => error,
            };
            changes.say(&format!("MAGPIE-ENROL v1 error: {error}"));
            sleep(pauses.after(&error)).await;
        }
    }

    async fn ask_instance_id(&self) -> Result<String, MetadataError> {
        const PATH: &str = "/latest/meta-data/instance-id";
        let malformed = MetadataError::Malformed { path: PATH, reason: "no instance's id" };
        let answer = self.get(PATH, MAX_WORD).await?;
        let answer = answer.ok_or(MetadataError::Status { path: PATH, status: StatusCode::NOT_FOUND })?;
        match std::str::from_utf8(answer.trim_ascii()) {
            Ok(id) if is_instance_id(id) => Ok(id.to_owned()),
            _ => Err(malformed),
        }
    }

    async fn ask_user_data(&self) -> Result<Option<Zeroizing<Vec<u8>>>, MetadataError> {
        self.get("/latest/user-data", userdata::LIMIT).await
    }

    /// The content of `path`; `None` if it does not exist.
    async fn get(
        &self,
        path: &'static str,
        limit: usize,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, MetadataError> {
        let token = self.token().await?;
        let request = Request::get(path).header("X-aws-ec2-metadata-token", token);
        match self.exchange(path, request, limit).await? {
            (StatusCode::OK, body) => Ok(Some(body)),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, _) => Err(MetadataError::Status { path, status }),
        }
    }

    async fn token(&self) -> Result<HeaderValue, MetadataError> {
        const PATH: &str = "/latest/api/token";
        let request = Request::builder()
            .method(Method::PUT)
            .uri(PATH)
            .header("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL);
        let (status, body) = self.exchange(PATH, request, MAX_WORD).await?;
        if status != StatusCode::OK {
            return Err(MetadataError::NoToken(status));
        }
        let malformed = |_| MetadataError::Malformed { path: PATH, reason: "not a token" };
        let mut token = HeaderValue::from_bytes(&body).map_err(malformed)?;
        token.set_sensitive(true);
        Ok(token)
    }

    /// One request over a new connection, directly to the service: proxies from the environment are ignored (the
    /// service rejects requests through a proxy).
    async fn exchange(
        &self,
        path: &'static str,
        request: http::request::Builder,
        limit: usize,
    ) -> Result<(StatusCode, Zeroizing<Vec<u8>>), MetadataError> {
        let exchange = async {
            let unreachable = |source| MetadataError::Unreachable { at: self.to_string(), source };
            // In a URL, and only there, an IPv6 address has brackets.
            let host = self.host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, self.port)).await.map_err(unreachable)?;
            let protocol = |source| MetadataError::Protocol { at: self.to_string(), source };
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(protocol)?;
            let request = request.header(HOST, self.to_string()).body(Empty::<Bytes>::new());
            let request =
                request.map_err(|_| MetadataError::Malformed { path, reason: "the request is invalid" })?;
            let answer = async {
                let answer = sender.send_request(request).await.map_err(protocol)?;
                let (head, body) = answer.into_parts();
                let body = Limited::new(body, limit).collect().await.map_err(|error| {
                    let is_long = error.is::<LengthLimitError>();
                    let reason = if is_long { "too long" } else { "incomplete" };
                    MetadataError::Malformed { path, reason }
                })?;
                Ok((head.status, Zeroizing::new(body.to_bytes().to_vec())))
            };
            tokio::pin!(answer);
            tokio::select! {
                answer = &mut answer => answer,
                // The connection may end before its last answer has been read.
                ended = connection => match ended {
                    Ok(()) => answer.await,
                    Err(error) => Err(protocol(error)),
                },
            }
        };
        let late =
            |_| MetadataError::Unreachable { at: self.to_string(), source: io::ErrorKind::TimedOut.into() };
        timeout(PATIENCE, exchange).await.map_err(late)?
    }
}

/// 1, 2, 4 … 30 s. Stays at 1 s while there is no network yet: such an attempt costs nothing, and boot waits for it.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(PAUSES.0)
    }
}

impl Pauses {
    fn after(&mut self, error: &MetadataError) -> Duration {
        use io::ErrorKind::{HostUnreachable, NetworkUnreachable};
        if let MetadataError::Unreachable { source, .. } = error
            && matches!(source.kind(), HostUnreachable | NetworkUnreachable)
        {
            return PAUSES.0;
        }
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSES.1);
        pause
    }
}

/// Today's ids are `i-` and 8 or 17 hex digits; any word is accepted.
fn is_instance_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_named_by_a_bare_url() {
        let at = |url: &str| url.parse::<Metadata>().map(|metadata| metadata.to_string()).ok();
        assert_eq!(at("http://169.254.169.254").as_deref(), Some("169.254.169.254:80"));
        assert_eq!(at("http://[fd00:ec2::254]").as_deref(), Some("[fd00:ec2::254]:80"));
        assert_eq!(at("http://127.0.0.1:1338/").as_deref(), Some("127.0.0.1:1338"));
        for bad in
            ["", "169.254.169.254", "https://169.254.169.254", "http://a/latest", "http://u@a", "http://a?b"]
        {
            assert_eq!(at(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn pauses_between_attempts_grow() {
        let failure =
            |kind: io::ErrorKind| MetadataError::Unreachable { at: String::new(), source: kind.into() };
        let mut pauses = Pauses::default();
        let mut after = |kind| pauses.after(&failure(kind)).as_secs();
        assert_eq!([1, 1, 1], [(); 3].map(|()| after(io::ErrorKind::NetworkUnreachable)), "at boot");
        assert_eq!([1, 2, 4, 8, 16, 30, 30], [(); 7].map(|()| after(io::ErrorKind::ConnectionRefused)));
    }

    #[test]
    fn an_id_is_a_word() {
        assert!(is_instance_id("i-0123456789abcdef0"));
        for bad in ["", "<html>", "i-1 i-2", &"x".repeat(65)] {
            assert!(!is_instance_id(bad), "{bad:?}");
        }
    }
}
