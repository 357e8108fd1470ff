//! SDK clients, one for each region. They are created on first use; until then there is no network traffic and no
//! search for credentials.

use std::{
    collections::HashMap,
    env,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_ec2::{
    Client,
    config::{self, retry},
    error::{ProvideErrorMetadata, SdkError},
    operation::{run_instances::RunInstancesError, start_instances::StartInstancesError},
};
use tokio::sync::OnceCell;

use super::{
    explain::{self, Place},
    failure::{self, Failure},
};
use crate::{
    config::Ec2Config,
    error::{Error, Result},
};

/// Throttling is common in large accounts. With pauses of up to 20 s, this retries for about a minute.
const ATTEMPTS: u32 = 8;
/// Timeout of one attempt; EC2's slowest calls take some seconds.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Timeout of a call with all its attempts.
const CALL: Duration = Duration::from_secs(180);

/// EC2 in all regions.
#[derive(Debug)]
pub(super) struct Cloud {
    region: Option<String>,
    profile: Option<String>,
    found: OnceCell<Found>,
    clients: Mutex<HashMap<String, Client>>,
}

/// The SDK's settings on this machine.
#[derive(Debug)]
struct Found {
    config: SdkConfig,
    /// Region for new hosts and listings.
    region: String,
    place: Arc<Place>,
}

/// EC2 in one region.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) place: Arc<Place>,
}

impl Region {
    /// Turns the error of a call into one for the user. `action` is EC2's name of the call, such as `RunInstances`.
    pub(super) fn failed<E, R>(&self, action: &'static str, error: SdkError<E, R>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        self.explain(action, &Failure::from(error))
    }

    /// [`Region::failed`] for a [`Failure`].
    pub(super) fn explain(&self, action: &'static str, failure: &Failure) -> Error {
        explain::explain(failure, action, &self.name, &self.place)
    }
}

impl Cloud {
    /// Stores the settings; no network, no credentials.
    pub(super) fn new(settings: &Ec2Config) -> Self {
        Self {
            region: settings.region.clone(),
            profile: settings.profile.clone(),
            found: OnceCell::new(),
            clients: Mutex::default(),
        }
    }

    /// The region in which new hosts are launched.
    pub(super) async fn home(&self) -> Result<Region> {
        let found = self.found().await?;
        self.in_region(&found.region).await
    }

    /// A region by name; [`Cloud::home`] if `name` is empty.
    pub(super) async fn in_region(&self, name: &str) -> Result<Region> {
        let found = self.found().await?;
        let name = if name.is_empty() { &found.region } else { name };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let client = clients.entry(name.to_owned()).or_insert_with(|| {
            let region = config::Region::new(name.to_owned());
            let config =
                config::Builder::from(&found.config).region(region).retry_classifier(NoCapacity).build();
            Client::from_conf(config)
        });
        Ok(Region { client: client.clone(), name: name.to_owned(), place: Arc::clone(&found.place) })
    }

    async fn found(&self) -> Result<&Found> {
        self.found.get_or_try_init(|| self.find()).await
    }

    async fn find(&self) -> Result<Found> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(
                TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT).operation_timeout(CALL).build(),
            );
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = &self.region {
            loader = loader.region(config::Region::new(region.clone()));
        }
        let config = loader.load().await;
        let profile = self.profile.clone().or_else(|| set("AWS_PROFILE"));
        let region_source = self.region_source(profile.as_deref());
        let region = config.region().map(ToString::to_string).ok_or_else(|| {
            Error::invalid("no EC2 region is set")
                .hint("set `region` in [ec2] of magpie.toml, AWS_REGION, or a region in the profile")
        })?;
        let endpoint = config.endpoint_url().map(str::to_owned).or_else(|| set("AWS_ENDPOINT_URL_EC2"));
        Ok(Found { config, region, place: Arc::new(Place { region_source, profile, endpoint }) })
    }

    /// Source of the region, in the SDK's order of precedence.
    fn region_source(&self, profile: Option<&str>) -> String {
        if self.region.is_some() {
            return "[ec2] region in magpie.toml".to_owned();
        }
        if let Some(name) = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find(|name| set(name).is_some())
        {
            return format!("{name} in the environment");
        }
        format!("the profile {}, or the instance that ctl runs on", profile.unwrap_or("default"))
    }
}

fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Keeps the SDK from retrying for a minute when there is no capacity: EC2 reports that with status 500, and the next
/// instance type or subnet may have capacity.
#[derive(Debug)]
struct NoCapacity;

impl retry::ClassifyRetry for NoCapacity {
    fn classify_retry(&self, context: &config::interceptors::InterceptorContext) -> retry::RetryAction {
        let Some(Err(error)) = context.output_or_error() else {
            return retry::RetryAction::NoActionIndicated;
        };
        let Some(error) = error.as_operation_error() else { return retry::RetryAction::NoActionIndicated };
        let launch = error.downcast_ref::<RunInstancesError>().and_then(ProvideErrorMetadata::code);
        let start = error.downcast_ref::<StartInstancesError>().and_then(ProvideErrorMetadata::code);
        match launch.or(start).and_then(failure::shortage) {
            Some(_) => retry::RetryAction::RetryForbidden,
            None => retry::RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "no capacity"
    }
}
