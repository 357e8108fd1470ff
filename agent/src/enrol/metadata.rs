//! The instance metadata service of EC2, version 2: which instance this is, and what it was told at launch.
//!
//! Only version 2 is spoken: a token by PUT, which no simple request forgery can make, and then GET with that token (EC2
//! user guide, "Use the Instance Metadata Service"). What answers without a token is not asked anything.

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

/// For one question and its answer, connecting included.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a token may be used, in seconds: for the question it was got for.
const TOKEN_TTL: HeaderValue = HeaderValue::from_static("60");

/// The longest token or id, in bytes; EC2's are 56 and 19.
const MAX_WORD: usize = 512;

/// Between attempts at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Where the metadata service is. `http://169.254.169.254` on EC2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    host: String,
    port: u16,
}

/// Why the metadata service does not say what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// No connection, or it broke.
    #[error("the metadata service at {at} cannot be reached: {source}")]
    Unreachable {
        /// Host and port.
        at: String,
        /// Why.
        source: io::Error,
    },
    /// What answers does not speak HTTP.
    #[error("the metadata service at {at} does not speak HTTP: {source}")]
    Protocol {
        /// Host and port.
        at: String,
        /// Why.
        source: hyper::Error,
    },
    /// It answers, but gives no token.
    #[error("the metadata service gives no token (it answers {0}); only version 2 of it is spoken")]
    NoToken(StatusCode),
    /// It does not want to say.
    #[error("the metadata service answers {status} to {path}")]
    Status {
        /// What it was asked for.
        path: &'static str,
        /// What it answered.
        status: StatusCode,
    },
    /// The answer is longer than it can be, or not what it should be.
    #[error("the metadata service's answer to {path} is malformed: {reason}")]
    Malformed {
        /// What it was asked for.
        path: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// An address that no metadata service can be at.
#[derive(Debug, thiserror::Error)]
#[error("a metadata service is named like http://169.254.169.254")]
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
    /// The id of this instance; asked for until there is an answer. What is in the way is said once, and again when it
    /// changes.
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

    /// What the instance was told at launch, if anything; asked for until there is an answer, as above. It may hold a
    /// token: a secret.
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
        let malformed = MetadataError::Malformed { path: PATH, reason: "this is no instance's id" };
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

    /// What is at `path`; `None` if there is nothing.
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
        let malformed = |_| MetadataError::Malformed { path: PATH, reason: "this is no token" };
        let mut token = HeaderValue::from_bytes(&body).map_err(malformed)?;
        token.set_sensitive(true);
        Ok(token)
    }

    /// One request over a connection of its own, straight to the service: whatever proxy the environment names is not
    /// asked (and the service would refuse what comes through one).
    async fn exchange(
        &self,
        path: &'static str,
        request: http::request::Builder,
        limit: usize,
    ) -> Result<(StatusCode, Zeroizing<Vec<u8>>), MetadataError> {
        let exchange = async {
            let unreachable = |source| MetadataError::Unreachable { at: self.to_string(), source };
            // An IPv6 address stands in brackets in a URL, and only there.
            let host = self.host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, self.port)).await.map_err(unreachable)?;
            let protocol = |source| MetadataError::Protocol { at: self.to_string(), source };
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(protocol)?;
            let request = request.header(HOST, self.to_string()).body(Empty::<Bytes>::new());
            let request =
                request.map_err(|_| MetadataError::Malformed { path, reason: "it cannot be asked" })?;
            let answer = async {
                let answer = sender.send_request(request).await.map_err(protocol)?;
                let (head, body) = answer.into_parts();
                let body = Limited::new(body, limit).collect().await.map_err(|error| {
                    let is_long = error.is::<LengthLimitError>();
                    let reason = if is_long { "it is too long" } else { "it broke off" };
                    MetadataError::Malformed { path, reason }
                })?;
                Ok((head.status, Zeroizing::new(body.to_bytes().to_vec())))
            };
            tokio::pin!(answer);
            tokio::select! {
                answer = &mut answer => answer,
                // The connection may end before its last answer has been looked at.
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

/// 1, 2, 4 … 30 s; but 1 s as long as there is no network yet, when an attempt troubles nobody and boot waits for it.
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

/// `i-` and 8 or 17 hex digits today; anything that is a word will do.
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
    fn attempts_become_rarer() {
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
