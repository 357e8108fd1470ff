//! Authorisation: one table, checked before any service sees the request. Paths outside the table do not exist.

use std::{
    future::ready,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode};
use proto::identity::{Role, User};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::metrics;

/// Every path that the agent serves, and the minimum role for it. A test compares the table with the contract.
const TABLE: &[(&str, Role)] = &[
    ("/magpie.v1.Host/Status", Role::Reader),
    ("/magpie.v1.Host/Claim", Role::Operator),
    ("/magpie.v1.Host/Release", Role::Operator),
    ("/magpie.v1.Host/Extend", Role::Operator),
    // Also needs the CA's key: only an operator with that key can make a valid certificate.
    ("/magpie.v1.Host/Renew", Role::Operator),
    ("/magpie.v1.Bundles/Offer", Role::Operator),
    ("/magpie.v1.Bundles/Upload", Role::Operator),
    ("/magpie.v1.Runs/Start", Role::Operator),
    ("/magpie.v1.Runs/Cancel", Role::Operator),
    // The service hides private runs from readers, because only it knows which runs are private.
    ("/magpie.v1.Runs/Attach", Role::Reader),
    ("/magpie.v1.Runs/Get", Role::Reader),
    ("/magpie.v1.Runs/List", Role::Reader),
    ("/magpie.v1.History/Read", Role::Reader),
    ("/magpie.v1.History/Follow", Role::Reader),
    ("/magpie.v1.History/Info", Role::Reader),
    // Not an RPC: for monitoring systems.
    (metrics::PATH, Role::Reader),
];

/// Every path in the table, and the minimum role for it.
pub fn table() -> impl Iterator<Item = (&'static str, Role)> {
    TABLE.iter().copied()
}

/// Checks whether `user` may call `path`.
///
/// # Errors
/// UNIMPLEMENTED for a path outside the table, PERMISSION_DENIED if the role is not sufficient, UNAUTHENTICATED without
/// a user, which cannot happen on an accepted connection.
pub fn check(path: &str, user: Option<&User>) -> Result<(), Status> {
    let Some((_, least)) = table().find(|(row, _)| *row == path) else {
        return Err(Status::unimplemented(format!("this agent has no {path}")));
    };
    let user = user.ok_or_else(|| Status::unauthenticated("the connection has no user"))?;
    if user.role >= least {
        return Ok(());
    }
    tracing::warn!(user = user.name, role = %user.role, path, "denied");
    let User { name, role } = user;
    let call = path.trim_start_matches("/magpie.v1.");
    Err(Status::permission_denied(format!("{name} ({role}) may not call {call}: that needs {least}")))
}

/// Runs [`check`] before a service. The user stays in the request's extensions for the service.
#[derive(Clone, Copy, Debug)]
pub struct Authorise;

impl<S> Layer<S> for Authorise {
    type Service = Authorised<S>;

    fn layer(&self, inner: S) -> Authorised<S> {
        Authorised { inner }
    }
}

/// A service behind [`Authorise`].
#[derive(Clone, Debug)]
pub struct Authorised<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Authorised<S>
where
    S: Service<Request<B>, Response = Response<Body>, Future: Send + 'static, Error: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match check(request.uri().path(), request.extensions().get::<User>()) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => Box::pin(ready(Ok(refusal(request.uri().path(), status)))),
        }
    }
}

/// The response to a refused request: a gRPC status, or an HTTP status for clients that do not use gRPC.
pub(super) fn refusal(path: &str, status: Status) -> Response<Body> {
    let code = match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => StatusCode::FORBIDDEN,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    match path {
        metrics::PATH => metrics::plain(code, format!("{}\n", status.message())),
        _ => status.into_http(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(role: Role) -> User {
        User { name: "ada".to_owned(), role }
    }

    #[test]
    fn each_role_may_call_what_its_row_says() {
        for (path, least) in table() {
            for role in Role::ALL {
                let refused = check(path, Some(&user(role))).err().map(|status| status.code());
                let expected = (role < least).then_some(Code::PermissionDenied);
                assert_eq!(refused, expected, "{role} on {path}");
            }
        }
    }

    #[test]
    fn an_enroller_may_call_nothing() {
        for (path, _) in table() {
            assert!(check(path, Some(&user(Role::Enroller))).is_err(), "{path}");
        }
    }

    #[test]
    fn the_refusal_names_the_missing_role() {
        let status = check("/magpie.v1.Runs/Start", Some(&user(Role::Reader))).expect_err("refused");
        assert_eq!(status.message(), "ada (reader) may not call Runs/Start: that needs operator");
    }

    #[test]
    fn paths_outside_the_table_are_unimplemented() {
        for path in ["/", "/magpie.v1.Host/status", "/magpie.v1.Host/Status/", "/magpie.v1.Enrol/Grant"] {
            let status = check(path, Some(&user(Role::Admin))).expect_err("refused");
            assert_eq!(status.code(), Code::Unimplemented, "{path}");
        }
    }

    #[test]
    fn a_request_without_a_user_is_unauthenticated() {
        let status = check("/magpie.v1.Host/Status", None).expect_err("refused");
        assert_eq!(status.code(), Code::Unauthenticated);
    }
}
