//! Error messages and hints for EC2's errors, in one table of codes (EC2 API reference, "Error codes").

use super::failure::{Cause, Failure, shortage};
use crate::error::{Error, Kind};

/// Policy with all the permissions that `ctl` needs.
const POLICY: &str = "deploy/aws/iam-policy.json";

/// Sources of settings, for error messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the region was set.
    pub(super) region_source: String,
    /// The profile in use; `None` for the default.
    pub(super) profile: Option<String>,
    /// Endpoint, if it is not Amazon's.
    pub(super) endpoint: Option<String>,
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
    // The encoded message is long and unreadable.
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
                .hint(format!("the credentials are from {}; `aws sts get-caller-identity` shows the account and user", profile(place)))
                .hint(format!("or {region} is not enabled in this account; the region is from {}", place.region_source))
                .hint("or this machine's clock is wrong")
        }
        "OptInRequired" => Error::invalid(said)
            .hint(format!("enable {region} in this account, or accept the image's terms")),
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => {
            let missing = unauthorised(&failure.message).unwrap_or_else(|| format!("ec2:{action}"));
            Error::invalid(said).hint(format!(
                "the credentials of {} do not allow {missing}; {POLICY} lists all the permissions that ctl needs",
                profile(place)
            ))
        }
        "RequestLimitExceeded" | "Throttling" | "ThrottlingException" | "EC2ThrottledException" => {
            Error::unreachable(said).hint("EC2 has throttled this account for a minute; try again later")
        }
        "InstanceLimitExceeded" | "VcpuLimitExceeded" | "MaxSpotInstanceCountExceeded" => quota(failure, said, region),
        _ if shortage(code).is_some() => Error::unreachable(said)
            .hint("other types, subnets or markets may have capacity: `instance_type` and `subnets` take lists, `spot` can be \"fallback\""),
        _ if code.ends_with(".NotFound") || code.ends_with(".Malformed") || code == "InvalidParameterValue" => {
            Error::invalid(said).hint(format!(
                "ids are valid in one region only: ctl uses {region}, from {}",
                place.region_source
            ))
        }
        _ if code.ends_with("LimitExceeded") => quota(failure, said, region),
        "" | "InternalError" | "InternalFailure" | "Unavailable" | "ServiceUnavailable" => {
            Error::unreachable(said).hint("this is a problem inside EC2; try again later")
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
    let raise = format!("raise it in Service Quotas for {region}, or terminate instances");
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

/// Name and code of the on-demand quota for an instance type (EC2 user guide, "On-Demand Instance quotas").
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
            "the credentials of {} have expired: run `aws sso login{named}`, or renew them where they come from",
            profile(place)
        ));
    }
    error.hint(format!(
        "credentials come from the environment, {}, or the role of the instance that ctl runs on; \
         `aws configure sso{named}` sets them up",
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
            "the endpoint is {endpoint}, from AWS_ENDPOINT_URL or endpoint_url in the profile"
        )),
        None => error.hint(format!(
            "is ec2.{region}.amazonaws.com reachable from here? The region is from {}",
            place.region_source
        )),
    }
}

#[cfg(test)]
mod tests;
