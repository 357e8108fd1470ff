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
use proto::identity::User;
use tokio::time::timeout;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{
    authz,
    shares::{Bounds, Full, Place, Places},
};

/// How long the caller may take for his request, and the agent for the beginning of its answer.
const ANSWER: Duration = Duration::from_secs(120);

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
            let answer = match path == UPLOAD {
                true => answer.await?,
                false => match timeout(ANSWER, answer).await {
                    Ok(answer) => answer?,
                    Err(_) => return Ok(authz::refusal(&path, too_long())),
                },
            };
            Ok(answer.map(|body| Body::new(Answer { body, call })))
        })
    }
}

fn too_long() -> Status {
    Status::deadline_exceeded(format!("the call was not answered within {} s", ANSWER.as_secs()))
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
    call: Call,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, call } = self.get_mut();
        call.unread.answers().remove(&call.id);
        let polled = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(Some(_)) = polled {
            call.unread.answers().insert(call.id, Instant::now());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
