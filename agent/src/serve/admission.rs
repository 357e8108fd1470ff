//! Limits how many calls run at once, and how long a call may keep the agent waiting. The limits apply to the calls of
//! all services: a caller who does not read its answer occupies a place, never a thread, and only for a limited time.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use proto::{MAX_STDIN_BYTES, bundle::MAX_MANIFEST_BYTES, identity::User};
use tokio::time::timeout;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{
    authz,
    shares::{Bounds, Full, Place, Places},
};

/// Timeout for receiving a request, and for the first part of its answer.
const ANSWER: Duration = Duration::from_secs(120);

/// The slowest supported connection, in bytes/s; larger requests get more time accordingly.
const SLOW: u64 = 8 << 10;

/// The most bytes in one frame to a caller; the rest stays in the agent and occupies the call's place.
const SLICE: usize = 16 << 10;

/// The only call whose request has no size limit of its own; its service enforces a minimum rate.
const UPLOAD: &str = "/magpie.v1.Bundles/Upload";

/// What the listener knows about a request: the user, and the state of the connection.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user, from the certificate.
    pub user: User,
    /// Answers on this connection that the caller has not read.
    pub unread: Unread,
}

/// Answers of one connection that wait for the caller to read, each with its start time.
#[derive(Clone, Debug, Default)]
pub struct Unread(Arc<Mutex<HashMap<u64, Instant>>>);

impl Unread {
    /// # Errors
    /// If an answer has been unread for longer than `patience`.
    pub(super) fn check(&self, patience: Duration) -> io::Result<()> {
        let overdue = self.answers().values().any(|since| since.elapsed() > patience);
        if overdue {
            return Err(io::Error::other(format!("an answer was unread for {} s", patience.as_secs())));
        }
        Ok(())
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Limits the number of calls.
#[derive(Clone, Debug)]
pub struct Admission {
    places: Places,
    calls: Arc<AtomicU64>,
}

impl Admission {
    /// A limiter with these bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self { places: Places::new(bounds), calls: Arc::default() }
    }

    fn admit(&self, caller: Caller) -> Result<Call, Status> {
        let place = self.places.take(&caller.user).map_err(|full| {
            Status::resource_exhausted(match full {
                Full::User => format!("{} has too many open calls on this host", caller.user.name),
                Full::All => "this host has too many open calls".to_owned(),
            })
        })?;
        let id = self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(Call { id, unread: caller.unread, _place: place })
    }
}

impl<S> Layer<S> for Admission {
    type Service = Admitted<S>;

    fn layer(&self, inner: S) -> Admitted<S> {
        Admitted { admission: self.clone(), inner }
    }
}

/// A service behind [`Admission`].
#[derive(Clone, Debug)]
pub struct Admitted<S> {
    admission: Admission,
    inner: S,
}

impl<S, B> Service<Request<B>> for Admitted<S>
where
    S: Service<Request<B>, Response = Response<Body>, Future: Send + 'static, Error: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // Without a caller there is no user, and an anonymous request is never admitted.
        let Some(caller) = request.extensions_mut().remove::<Caller>() else {
            return Box::pin(self.inner.call(request));
        };
        request.extensions_mut().insert(caller.user.clone());
        let path = request.uri().path().to_owned();
        let call = match self.admission.admit(caller) {
            Ok(call) => call,
            Err(status) => return Box::pin(async move { Ok(authz::refusal(&path, status)) }),
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = match patience(&path) {
                None => answer.await?,
                Some(limit) => match timeout(limit, answer).await {
                    Ok(answer) => answer?,
                    Err(_) => return Ok(authz::refusal(&path, too_long(limit))),
                },
            };
            Ok(answer.map(|body| Body::new(Answer { body, rest: Bytes::new(), call })))
        })
    }
}

/// Timeout until a call's answer begins; `None` for the call with a minimum rate.
fn patience(path: &str) -> Option<Duration> {
    let largest = match path {
        UPLOAD => return None,
        "/magpie.v1.Bundles/Offer" => MAX_MANIFEST_BYTES,
        "/magpie.v1.Runs/Start" => MAX_STDIN_BYTES,
        _ => 0,
    };
    Some(ANSWER + Duration::from_secs(largest as u64 / SLOW))
}

fn too_long(limit: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {} s", limit.as_secs()))
}

/// An admitted call, until it ends.
#[derive(Debug)]
struct Call {
    id: u64,
    unread: Unread,
    _place: Place,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.unread.answers().remove(&self.id);
    }
}

/// A response body that polls for more only when the caller has read everything so far.
struct Answer {
    body: Body,
    /// The part of the body's last frame that was not yet passed on.
    rest: Bytes,
    call: Call,
}

impl Answer {
    /// The next frame, at most one slice long: data that the connection has accepted no longer counts against the call,
    /// and a caller with a tiny window could make the connection hold a whole large frame.
    fn poll_slice(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return other,
            }
        }
        let slice = self.rest.split_to(self.rest.len().min(SLICE));
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let answer = self.get_mut();
        // A poll means that the connection has accepted the previous frame.
        answer.call.unread.answers().remove(&answer.call.id);
        let polled = answer.poll_slice(cx);
        if let Poll::Ready(Some(_)) = polled {
            // Unread until the next poll, or until the call is dropped.
            answer.call.unread.answers().insert(answer.call.id, Instant::now());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};
    use proto::identity::Role;

    use super::*;

    #[test]
    fn a_large_request_gets_enough_time_for_a_slow_line() {
        let seconds = |path| patience(path).map(|limit| limit.as_secs());
        assert_eq!(seconds(UPLOAD), None);
        assert_eq!(seconds("/magpie.v1.Host/Status"), Some(120));
        assert_eq!(seconds("/magpie.v1.Runs/Start"), Some(120 + 512));
        assert_eq!(seconds("/magpie.v1.Bundles/Offer"), Some(120 + 4096));
    }

    #[tokio::test]
    async fn an_unread_answer_occupies_its_place() {
        let admission = Admission::new(Bounds { all: 1, kept: 0, each: 1 });
        let caller =
            || Caller { user: User { name: "eve".into(), role: Role::Reader }, unread: Unread::default() };
        let call = admission.admit(caller()).unwrap();
        let whole = Bytes::from(vec![7; 2 * SLICE + 1]);
        let mut answer = Answer { body: Body::new(Full::new(whole)), rest: Bytes::new(), call };
        let mut sizes = Vec::new();
        for left in [SLICE + 1, 1, 0] {
            sizes.push(answer.frame().await.unwrap().unwrap().into_data().unwrap().len());
            assert_eq!((answer.size_hint().exact(), answer.is_end_stream()), (Some(left as u64), left == 0));
            assert!(admission.admit(caller()).is_err(), "it is still running");
        }
        assert_eq!(sizes, [SLICE, SLICE, 1]);
        drop(answer);
        assert!(admission.admit(caller()).is_ok());
    }
}
