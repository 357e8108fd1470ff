//! Errors of all SDK calls as one type, and their classification.

use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// An error of any SDK call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    /// EC2's error code; empty if EC2 did not answer.
    pub(super) code: String,
    /// Message from EC2 or from the SDK.
    pub(super) message: String,
    /// Requested instance type; empty for calls without one.
    pub(super) instance_type: String,
}

/// Where a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// EC2 answered with an error.
    Refused,
    /// Credentials are missing or could not be loaded.
    Credentials,
    /// The endpoint could not be reached.
    Unreached,
    /// No answer in time.
    TimedOut,
    /// Any other error.
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

/// The messages of an error and its sources, without repetitions and generic ones.
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
    /// The instance or image does not exist, or not yet: EC2 is eventually consistent.
    pub(super) fn is_not_found(&self) -> bool {
        self.code == "InvalidInstanceID.NotFound"
            || self.code == "InvalidAMIID.NotFound"
            || self.code == "InvalidID"
    }

    /// The instance is in the wrong state for the call.
    pub(super) fn is_state(&self) -> bool {
        matches!(self.code.as_str(), "IncorrectInstanceState" | "IncorrectState" | "InvalidState")
    }

    /// The client token was already used with other parameters.
    pub(super) fn is_repeated(&self) -> bool {
        self.code == "IdempotentParameterMismatch"
    }

    /// The kind of shortage; `None` for all other errors.
    pub(super) fn shortage(&self) -> Option<Shortage> {
        // "Unsupported" also means parameters that are supported in no zone.
        if self.code == "Unsupported" && !self.message.contains("Availability Zone") {
            return None;
        }
        shortage(&self.code)
    }
}

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// This instance type, in this zone and market.
    Here,
    /// Spot instances, for this account.
    Market,
}

/// The shortage that an error code means; something else may still be launched then.
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

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::{error::ErrorMetadata, operation::run_instances::RunInstancesError};

    use super::*;

    fn failure(code: &str, message: &str) -> Failure {
        Failure {
            cause: Cause::Refused,
            code: code.into(),
            message: message.into(),
            instance_type: "g5.xlarge".into(),
        }
    }

    #[test]
    fn an_answer_of_ec2_keeps_code_and_words() {
        let meta = ErrorMetadata::builder().code("VcpuLimitExceeded").message("too many").build();
        let error = SdkError::service_error(RunInstancesError::generic(meta), ());
        let expected = Failure { instance_type: String::new(), ..failure("VcpuLimitExceeded", "too many") };
        assert_eq!(Failure::from(error), expected);
    }

    #[test]
    fn timeouts_and_missing_credentials_have_different_causes() {
        let cause = |error: SdkError<RunInstancesError, ()>| Failure::from(error).cause;
        assert_eq!(cause(SdkError::timeout_error("slow")), Cause::TimedOut);
        assert_eq!(cause(SdkError::construction_failure("no credentials in the chain")), Cause::Credentials);
        assert_eq!(cause(SdkError::construction_failure("a field is missing")), Cause::Other);
    }

    #[test]
    fn shortages_differ_from_mistakes() {
        for code in ["InsufficientInstanceCapacity", "InsufficientHostCapacity", "SpotMaxPriceTooLow"] {
            assert_eq!(failure(code, "").shortage(), Some(Shortage::Here), "{code}");
        }
        assert_eq!(failure("MaxSpotInstanceCountExceeded", "").shortage(), Some(Shortage::Market));
        assert_eq!(failure("VcpuLimitExceeded", "").shortage(), None);
        let unsupported = "Your requested instance type is not supported in your requested Availability Zone";
        assert_eq!(failure("Unsupported", unsupported).shortage(), Some(Shortage::Here));
        assert_eq!(failure("Unsupported", "The configuration is not supported").shortage(), None);
    }
}
