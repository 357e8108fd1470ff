//! An error of the SDK, whichever call it is of, and what can be done about it.

use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

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
    fn no_answer_is_told_from_no_credentials() {
        let cause = |error: SdkError<RunInstancesError, ()>| Failure::from(error).cause;
        assert_eq!(cause(SdkError::timeout_error("slow")), Cause::TimedOut);
        assert_eq!(cause(SdkError::construction_failure("no credentials in the chain")), Cause::Credentials);
        assert_eq!(cause(SdkError::construction_failure("a field is missing")), Cause::Other);
    }

    #[test]
    fn shortages_are_told_from_mistakes() {
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
