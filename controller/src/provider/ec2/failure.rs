//! What errors of EC2 mean to a user: one table from codes (EC2 API reference, "Error codes") to sentences.

use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use super::cloud::Place;
use crate::error::{Error, Kind};

/// Grants what `ctl` needs.
const POLICY: &str = "deploy/aws/iam-policy.json";

/// An error of the SDK, whichever call it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    /// EC2's code; empty if it did not answer.
    pub(super) code: String,
    /// EC2's or the SDK's words.
    pub(super) message: String,
    /// The instance type that was asked for, where one was.
    pub(super) instance_type: String,
}

/// How far a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// EC2 answered.
    Refused,
    /// There are no credentials, or they could not be had.
    Credentials,
    /// The endpoint could not be reached.
    Unreached,
    /// Nobody answered in time.
    TimedOut,
    /// Something that should not be.
    Other,
}

impl<E, R> From<SdkError<E, R>> for Failure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    fn from(error: SdkError<E, R>) -> Self {
        let chain = DisplayErrorContext(&error).to_string();
        let cause = match &error {
            SdkError::ServiceError(_) => Cause::Refused,
            SdkError::TimeoutError(_) => Cause::TimedOut,
            SdkError::ResponseError(_) => Cause::Unreached,
            _ if words_of(&error).contains("redential") || chain.contains("CredentialsNotLoaded") => {
                Cause::Credentials
            }
            SdkError::DispatchFailure(_) => Cause::Unreached,
            _ => Cause::Other,
        };
        let meta = error.as_service_error().map(ProvideErrorMetadata::meta);
        let code = meta.and_then(|meta| meta.code()).unwrap_or_default().to_owned();
        let message = match meta.and_then(|meta| meta.message()) {
            Some(message) => message.to_owned(),
            None => words_of(&error),
        };
        Self { cause, code, message, instance_type: String::new() }
    }
}

/// The texts of an error and of what caused it, without those that repeat or say nothing.
fn words_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let idle = ["dispatch failure", "other", "io error", "service error", "unhandled error"];
        if !idle.contains(&text.as_str()) && !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}

impl Failure {
    /// What it was about is not there, or not yet: EC2's parts learn of each other some seconds later.
    pub(super) fn is_not_found(&self) -> bool {
        self.code == "InvalidInstanceID.NotFound"
            || self.code == "InvalidAMIID.NotFound"
            || self.code == "InvalidID"
    }

    /// An instance is in another state than the call needs.
    pub(super) fn is_state(&self) -> bool {
        matches!(self.code.as_str(), "IncorrectInstanceState" | "IncorrectState" | "InvalidState")
    }

    /// The client token was used with other parameters.
    pub(super) fn is_repeated(&self) -> bool {
        self.code == "IdempotentParameterMismatch"
    }

    /// What there is too little of.
    pub(super) fn shortage(&self) -> Option<Shortage> {
        // "Unsupported" is also said of parameters that fit nowhere.
        if self.code == "Unsupported" && !self.message.contains("Availability Zone") {
            return None;
        }
        shortage(&self.code)
    }
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// This type in this place and market.
    Here,
    /// Spot instances, for this account.
    Market,
}

/// Whether something else may still be launched.
pub(super) fn shortage(code: &str) -> Option<Shortage> {
    match code {
        "InsufficientInstanceCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientReservedInstanceCapacity"
        | "InsufficientCapacity"
        | "InsufficientFreeAddressesInSubnet"
        | "SpotMaxPriceTooLow"
        | "Unsupported" => Some(Shortage::Here),
        "MaxSpotInstanceCountExceeded" => Some(Shortage::Market),
        _ => None,
    }
}

/// The error for the user. `action` is EC2's name of the call.
pub(super) fn explain(failure: &Failure, action: &str, region: &str, place: &Place) -> Error {
    let said = format!("EC2 in {region}: {action}: {}", words(failure));
    match failure.cause {
        Cause::Refused => refused(failure, said, action, region, place),
        Cause::Credentials => credentials(said, place, &failure.message),
        Cause::Unreached => unreached(said, region, place),
        Cause::TimedOut => unreached(said, region, place),
        Cause::Other => Error::unreachable(said),
    }
}

fn words(failure: &Failure) -> String {
    // An encoded message is long and says nothing to a reader.
    let message = failure.message.split(" Encoded authorization failure message:").next().unwrap_or_default();
    let message = message.trim().trim_end_matches('.');
    match (failure.code.as_str(), message) {
        ("", message) => message.to_owned(),
        (code, "") => code.to_owned(),
        (code, message) => format!("{message} ({code})"),
    }
}

fn refused(failure: &Failure, said: String, action: &str, region: &str, place: &Place) -> Error {
    let code = failure.code.as_str();
    match code {
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" | "TokenRefreshRequired" => {
            credentials(said, place, "sso")
        }
        "AuthFailure" | "InvalidClientTokenId" | "SignatureDoesNotMatch" | "UnrecognizedClientException" => {
            Error::invalid(said)
                .hint(format!("the credentials are of {}; `aws sts get-caller-identity` shows whose they are", profile(place)))
                .hint(format!("or {region} is not enabled in this account; it is from {}", place.region_source))
                .hint("or this machine's clock is wrong")
        }
        "OptInRequired" => Error::invalid(said)
            .hint(format!("the account has to enable {region}, or accept the image's terms, first")),
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => {
            let missing = unauthorised(&failure.message).unwrap_or_else(|| format!("ec2:{action}"));
            Error::invalid(said).hint(format!(
                "the credentials of {} may not {missing}; {POLICY} has all that ctl needs",
                profile(place)
            ))
        }
        "RequestLimitExceeded" | "Throttling" | "ThrottlingException" | "EC2ThrottledException" => {
            Error::unreachable(said).hint("EC2 throttles this account, and did so for a minute; try again later")
        }
        "InstanceLimitExceeded" | "VcpuLimitExceeded" | "MaxSpotInstanceCountExceeded" => quota(failure, said, region),
        _ if shortage(code).is_some() => Error::unreachable(said)
            .hint("other types, subnets and markets may have capacity: `instance_type`, `subnets` and `spot` take lists and a fallback"),
        _ if code.ends_with(".NotFound") || code.ends_with(".Malformed") || code == "InvalidParameterValue" => {
            Error::invalid(said).hint(format!(
                "ids count in one region only: {region} is in use, from {}",
                place.region_source
            ))
        }
        _ if code.ends_with("LimitExceeded") => quota(failure, said, region),
        "" | "InternalError" | "InternalFailure" | "Unavailable" | "ServiceUnavailable" => {
            Error::unreachable(said).hint("that is EC2's own trouble; try again later")
        }
        _ => Error::new(Kind::Invalid, said),
    }
}

/// `User: … is not authorized to perform: ec2:CreateTags on resource: …`
fn unauthorised(message: &str) -> Option<String> {
    let (_, after) = message.split_once("not authorized to perform: ")?;
    let action: String =
        after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == ':' || *c == '-').collect();
    (!action.is_empty()).then_some(action)
}

fn quota(failure: &Failure, said: String, region: &str) -> Error {
    let raise = format!("raise it in Service Quotas for {region}, or end instances");
    let named = match failure.code.as_str() {
        "MaxSpotInstanceCountExceeded" => "\"All Standard Spot Instance Requests\" (L-34B43A08)".to_owned(),
        "VcpuLimitExceeded" | "InstanceLimitExceeded" => {
            let (name, code) = quota_of(&failure.instance_type);
            format!("\"{name}\" ({code})")
        }
        _ => failure.code.clone(),
    };
    Error::unreachable(said).hint(format!("the quota is {named}; {raise}"))
}

/// Quota of an instance type on demand (EC2 user guide, "On-Demand Instance quotas").
fn quota_of(instance_type: &str) -> (&'static str, &'static str) {
    const FAMILIES: [(&[&str], &str, &str); 9] = [
        (&["trn"], "Running On-Demand Trn instances", "L-2C3B7624"),
        (&["inf"], "Running On-Demand Inf instances", "L-1945791B"),
        (&["dl"], "Running On-Demand DL instances", "L-6E869C2A"),
        (&["hpc"], "Running On-Demand HPC instances", "L-F7808C92"),
        (&["u-", "u7"], "Running On-Demand High Memory instances", "L-43DA4232"),
        (&["vt", "g"], "Running On-Demand G and VT instances", "L-DB2E81BA"),
        (&["p"], "Running On-Demand P instances", "L-417A185B"),
        (&["f"], "Running On-Demand F instances", "L-74FC7D96"),
        (&["x"], "Running On-Demand X instances", "L-7295265B"),
    ];
    FAMILIES
        .iter()
        .find(|(prefixes, ..)| prefixes.iter().any(|prefix| instance_type.starts_with(prefix)))
        .map_or(
            ("Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", "L-1216C47A"),
            |(_, name, code)| (*name, *code),
        )
}

fn credentials(said: String, place: &Place, chain: &str) -> Error {
    let named = place.profile.as_deref().map(|name| format!(" --profile {name}")).unwrap_or_default();
    let error = Error::invalid(said);
    if chain.to_ascii_lowercase().contains("sso") || chain.contains("token") {
        return error.hint(format!(
            "the credentials of {} are over: `aws sso login{named}`, or whatever gave them",
            profile(place)
        ));
    }
    error.hint(format!(
        "credentials are taken from the environment, from {}, or from the role of the instance that this runs on; \
         `aws configure sso{named}` sets some up",
        profile(place)
    ))
}

fn profile(place: &Place) -> String {
    match &place.profile {
        Some(name) => format!("the profile {name}"),
        None => "the default profile".to_owned(),
    }
}

fn unreached(said: String, region: &str, place: &Place) -> Error {
    let error = Error::unreachable(said);
    match &place.endpoint {
        Some(endpoint) => error.hint(format!(
            "the endpoint is {endpoint}: AWS_ENDPOINT_URL, or endpoint_url in the profile, says so"
        )),
        None => error.hint(format!(
            "is ec2.{region}.amazonaws.com reachable from here? The region is from {}",
            place.region_source
        )),
    }
}

#[cfg(test)]
mod tests;
