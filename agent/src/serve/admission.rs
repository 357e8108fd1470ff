//! How many calls may be under way, and how long one may keep the agent waiting. What stands here holds for every call,
//! whichever service it is for: a caller who does not read holds a place, never a thread, and not for ever.

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

/// How long the caller may take for a request, and the agent for the beginning of its answer.
const ANSWER: Duration = Duration::from_secs(120);

/// A slow line is one of so many bytes a second: a large request takes as long as it takes there.
const SLOW: u64 = 8 << 10;

/// The most bytes in one frame to a caller; the rest waits here, where it holds the place of its call.
const SLICE: usize = 16 << 10;

/// The one call whose request goes on for as long as the bundle is large; its service has a least rate for it.
const UPLOAD: &str = "/magpie.v1.Bundles/Upload";

/// What the listener knows of a request: who sent it, and how its connection stands.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who it is, from the certificate.
    pub user: User,
    /// What this connection's other end has not read.
    pub unread: Unread,
}

/// Answers of one connection that wait for its other end to read, each with the time since when.
#[derive(Clone, Debug, Default)]
pub struct Unread(Arc<Mutex<HashMap<u64, Instant>>>);

impl Unread {
    /// # Errors
    /// An answer has been waiting for longer than `patience`.
    pub(super) fn check(&self, patience: Duration) -> io::Result<()> {
        let overdue = self.answers().values().any(|since| since.elapsed() > patience);
        if overdue {
            return Err(io::Error::other(format!("an answer was not read for {} s", patience.as_secs())));
        }
        Ok(())
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets in no more calls than there are places.
#[derive(Clone, Debug)]
pub struct Admission {
    places: Places,
    calls: Arc<AtomicU64>,
}

impl Admission {
    /// So many calls at once.
    pub fn new(bounds: Bounds) -> Self {
        Self { places: Places::new(bounds), calls: Arc::default() }
    }

    fn admit(&self, caller: Caller) -> Result<Call, Status> {
        let place = self.places.take(&caller.user).map_err(|full| {
            Status::resource_exhausted(match full {
                Full::User => format!("{} has too many calls under way on this host", caller.user.name),
                Full::All => "this host has too many calls under way".to_owned(),
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
        // Without a caller there is no user either, and nobody lets in a request of nobody.
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

/// How long a call may take until its answer begins; `None` for the one that has a least rate.
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
    Status::deadline_exceeded(format!("the call was not answered within {} s", limit.as_secs()))
}

/// A call that was let in, until it is over.
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

/// What is asked for more only when the other end has taken what there was.
struct Answer {
    body: Body,
    /// Of the last frame of the body, what the other end has not asked for.
    rest: Bytes,
    call: Call,
}

impl Answer {
    /// The next frame, of which no more than a slice is passed on: what the connection has been given is off our hands, and
    /// a caller with a tiny window would hold all of it for nothing.
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
        answer.call.unread.answers().remove(&answer.call.id);
        let polled = answer.poll_slice(cx);
        if let Poll::Ready(Some(_)) = polled {
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
    fn a_large_request_may_take_as_long_as_a_slow_line_needs() {
        let seconds = |path| patience(path).map(|limit| limit.as_secs());
        assert_eq!(seconds(UPLOAD), None);
        assert_eq!(seconds("/magpie.v1.Host/Status"), Some(120));
        assert_eq!(seconds("/magpie.v1.Runs/Start"), Some(120 + 512));
        assert_eq!(seconds("/magpie.v1.Bundles/Offer"), Some(120 + 4096));
    }

    #[tokio::test]
    async fn what_was_not_asked_for_holds_its_place() {
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
            assert!(admission.admit(caller()).is_err(), "it is under way");
        }
        assert_eq!(sizes, [SLICE, SLICE, 1]);
        drop(answer);
        assert!(admission.admit(caller()).is_ok());
    }
}
