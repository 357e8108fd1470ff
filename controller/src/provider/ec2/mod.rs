//! Instances of EC2 as hosts, at Amazon's or any other endpoint that speaks its protocol. Tags are the only state,
//! so that any controller sees what another has done.
//!
//! This module alone names the SDK. `request` and `tags` say what EC2 is told, `failure` what its errors mean.

mod attempts;
mod bake;
mod clone;
mod cloud;
mod dial;
mod failure;
mod fingerprint;
mod images;
mod instance;
mod launch;
mod lifecycle;
mod pauses;
mod recipe;
mod request;
mod tags;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_sdk_ec2::types::Instance;
use tokio::task::JoinSet;
use tonic::async_trait;

use self::{
    cloud::{Cloud, Region},
    dial::Looks,
    launch::Seen,
    tags::Tags,
};
use super::{Fingerprint, Host, Image, ImageId, Kind, Launch, Progress, Provider, Stream};
use crate::{
    config::{ConnectConfig, Ec2Config, Ec2Role, ImageChoice, RoleConfig},
    error::{Error, Result},
};

/// The provider; clones share their connections.
#[derive(Clone, Debug)]
pub struct Ec2(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Ec2Config,
    connect: ConnectConfig,
    /// Id of the fleet.
    fleet: String,
    cloud: Cloud,
    seen: Mutex<Seen>,
    looks: Mutex<Looks>,
    images: tokio::sync::Mutex<HashMap<Option<ImageChoice>, ImageId>>,
}

impl Ec2 {
    /// Remembers the settings. Neither network nor credentials are touched until there is something to ask.
    pub fn new(settings: &Ec2Config, connect: &ConnectConfig, fleet: &str) -> Self {
        Self(Arc::new(Inner {
            settings: settings.clone(),
            connect: connect.clone(),
            fleet: fleet.to_owned(),
            cloud: Cloud::new(settings),
            seen: Mutex::default(),
            looks: Mutex::default(),
            images: tokio::sync::Mutex::default(),
        }))
    }
}

impl Inner {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host(&self, region: &Region, instance: &Instance) -> Option<Host> {
        instance::host(instance, &region.name, self.settings.address)
    }

    /// The user's tags: those of the fleet, and those of the role.
    fn user_tags(&self, role: &Ec2Role) -> Tags {
        self.settings.tags.iter().chain(&role.tags).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    async fn hosts_in(&self, region: &Region, fleet: &str) -> Result<(Vec<Instance>, Vec<Host>)> {
        let instances = instance::list(region, [instance::tagged(tags::FLEET, fleet)]).await?;
        let hosts = instances.iter().filter_map(|instance| self.host(region, instance)).collect();
        Ok((instances, hosts))
    }

    async fn hosts(&self, fleet: &str) -> Result<Vec<Host>> {
        let region = self.cloud.home().await?;
        let (instances, mut hosts) = self.hosts_in(&region, fleet).await?;
        self.seen().replace(&instances);
        sort(&mut hosts);
        Ok(hosts)
    }

    async fn hosts_everywhere(self: Arc<Self>, fleet: &str) -> Result<Vec<Host>> {
        let home = self.cloud.home().await?;
        let regions = home.client.describe_regions().send().await;
        let regions = regions.map_err(|error| home.failed("DescribeRegions", error))?;
        let mut listings = JoinSet::new();
        for region in regions.regions() {
            let (inner, name, fleet) =
                (Arc::clone(&self), region.region_name().unwrap_or_default().to_owned(), fleet.to_owned());
            listings.spawn(async move {
                let region = inner.cloud.in_region(&name).await?;
                inner.hosts_in(&region, &fleet).await
            });
        }
        let mut hosts = Vec::new();
        while let Some(listing) = listings.join_next().await {
            let listing =
                listing.map_err(|error| Error::unreachable(format!("a listing broke off: {error}")))?;
            hosts.extend(listing?.1);
        }
        sort(&mut hosts);
        Ok(hosts)
    }
}

/// By role and number, as every provider has it.
fn sort(hosts: &mut [Host]) {
    let number = |host: &Host| host.name.rsplit_once('-').and_then(|(_, number)| number.parse::<u32>().ok());
    hosts.sort_by_cached_key(|host| (host.role.clone(), number(host), host.id.clone()));
}

#[async_trait]
impl Provider for Ec2 {
    fn kind(&self) -> Kind {
        Kind::Ec2
    }

    /// Large instances check their memory first, and an image may have to come from another place.
    fn boot_time(&self) -> Duration {
        Duration::from_secs(300)
    }

    async fn image(&self, role: &RoleConfig, _progress: Progress<'_>) -> Result<ImageId> {
        self.0.image(role.ec2.image.as_ref()).await
    }

    fn fingerprint(&self, role: &RoleConfig, image: &ImageId) -> Fingerprint {
        fingerprint::of(&role.ec2, image)
    }

    async fn launch(&self, launch: &Launch) -> Result<Host> {
        self.0.launch(launch).await
    }

    async fn clone_host(
        &self,
        host: &Host,
        launch: &Launch,
        with_record: bool,
        progress: Progress<'_>,
    ) -> Result<Host> {
        self.0.clone_host(host, launch, with_record, progress).await
    }

    async fn hosts(&self, fleet: &str) -> Result<Vec<Host>> {
        self.0.hosts(fleet).await
    }

    async fn hosts_everywhere(&self, fleet: &str) -> Result<Vec<Host>> {
        Arc::clone(&self.0).hosts_everywhere(fleet).await
    }

    async fn mark(&self, host: &Host) -> Result<()> {
        self.0.mark(host).await
    }

    async fn start(&self, host: &Host) -> Result<Host> {
        self.0.start(host).await
    }

    async fn stop(&self, host: &Host) -> Result<()> {
        self.0.stop(host).await
    }

    async fn destroy(&self, host: &Host) -> Result<()> {
        self.0.destroy(host).await
    }

    async fn dial_until(&self, host: &Host, port: u16, deadline: Instant) -> io::Result<Stream> {
        self.0.dial_until(host, port, deadline).await
    }

    async fn console(&self, host: &Host) -> Result<String> {
        self.0.console(host).await
    }

    async fn bake(&self, progress: Progress<'_>) -> Result<ImageId> {
        self.0.bake(progress).await
    }

    async fn images(&self) -> Result<Vec<Image>> {
        self.0.list_images().await
    }

    async fn remove_image(&self, image: &ImageId) -> Result<()> {
        self.0.remove_image(image).await
    }
}
