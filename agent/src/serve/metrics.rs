//! `GET /metrics`, on the same port and with the same certificates as all services.

use std::{
    convert::Infallible,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Method, Request, Response, StatusCode, header};
use tonic::body::Body;
use tower::Service;

use super::disk::Disk;
use crate::{metrics, paths::Paths};

/// The path of the metrics.
pub const PATH: &str = "/metrics";

/// Serves metrics from the record below `paths`.
#[derive(Clone, Debug)]
pub struct Metrics {
    directory: PathBuf,
    disk: Disk,
}

impl Metrics {
    /// Uses the record below `paths`, which may not exist yet.
    pub fn new(paths: &Paths, disk: Disk) -> Self {
        Self { directory: paths.history(), disk }
    }

    async fn answer(self, method: Method) -> Response<Body> {
        if method != Method::GET {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is supported\n".to_owned());
        }
        let Self { directory, disk } = self;
        let rendered = disk.look(move || metrics::render(&directory)).await;
        match rendered
            .map_err(|status| status.message().to_owned())
            .and_then(|page| page.map_err(|error| error.to_string()))
        {
            Ok(page) => of_type(metrics::CONTENT_TYPE, StatusCode::OK, page),
            Err(sentence) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{sentence}\n")),
        }
    }
}

/// A plain-text response.
pub(super) fn plain(status: StatusCode, sentence: String) -> Response<Body> {
    of_type("text/plain; charset=utf-8", status, sentence)
}

fn of_type(content_type: &'static str, status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

impl<B: Send + 'static> Service<Request<B>> for Metrics {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.clone().answer(request.method().clone());
        Box::pin(async { Ok(answer.await) })
    }
}
