//! Who may call what: one table, looked at before any service sees the request. What is not in it is not there.

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

/// Every path that the agent answers, and the least role for it. A test holds this against the contract.
const TABLE: &[(&str, Role)] = &[
    ("/magpie.v1.Host/Status", Role::Reader),
    ("/magpie.v1.Host/Claim", Role::Operator),
    ("/magpie.v1.Host/Release", Role::Operator),
    ("/magpie.v1.Host/Extend", Role::Operator),
    // Of operators those can do it who have the CA's key: the certificate proves that.
    ("/magpie.v1.Host/Renew", Role::Operator),
    ("/magpie.v1.Bundles/Offer", Role::Operator),
    ("/magpie.v1.Bundles/Upload", Role::Operator),
    ("/magpie.v1.Runs/Start", Role::Operator),
    ("/magpie.v1.Runs/Cancel", Role::Operator),
    // Private runs are kept from readers by the service, which alone knows which these are.
    ("/magpie.v1.Runs/Attach", Role::Reader),
    ("/magpie.v1.Runs/Get", Role::Reader),
    ("/magpie.v1.Runs/List", Role::Reader),
    ("/magpie.v1.History/Read", Role::Reader),
    ("/magpie.v1.History/Follow", Role::Reader),
    ("/magpie.v1.History/Info", Role::Reader),
    // No RPC: for who scrapes.
    (metrics::PATH, Role::Reader),
];

/// Every path in the table and the least role for it.
pub fn table() -> impl Iterator<Item = (&'static str, Role)> {
    TABLE.iter().copied()
}

/// Lets `user` call `path`, or says why not.
///
/// # Errors
/// UNIMPLEMENTED for a path that is not in the table, PERMISSION_DENIED with the missing role, and
/// UNAUTHENTICATED where no user is known, which no connection that was accepted can bring about.
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
    Err(Status::permission_denied(format!("{path} takes the role {least}; {name} has {role}")))
}

/// Puts [`check`] before a service. The user stays in the request's extensions for the service to see.
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

/// The answer to who may not, or not now: a status of gRPC, or of HTTP for who does not speak it.
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
        assert_eq!(status.message(), "/magpie.v1.Runs/Start takes the role operator; ada has reader");
    }

    #[test]
    fn what_is_not_in_the_table_is_not_there() {
        for path in ["/", "/magpie.v1.Host/status", "/magpie.v1.Host/Status/", "/magpie.v1.Enrol/Grant"] {
            let status = check(path, Some(&user(Role::Admin))).expect_err("refused");
            assert_eq!(status.code(), Code::Unimplemented, "{path}");
        }
    }

    #[test]
    fn nobody_is_nobody() {
        let status = check("/magpie.v1.Host/Status", None).expect_err("refused");
        assert_eq!(status.code(), Code::Unauthenticated);
    }
}
