//! The provider's shared state, and listings of hosts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_sdk_ec2::types::Instance;
use tokio::task::JoinSet;

use super::{
    cloud::{Cloud, Region},
    instance,
    looks::Looks,
    seen::Seen,
    tags::{self, Tags},
};
use crate::{
    config::{ConnectConfig, Ec2Config, Ec2Role, ImageChoice},
    error::{Error, Result},
    provider::{Host, ImageId},
};

/// Shared state of the provider.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) settings: Ec2Config,
    pub(super) connect: ConnectConfig,
    /// Id of the fleet.
    pub(super) fleet: String,
    pub(super) cloud: Cloud,
    pub(super) seen: Mutex<Seen>,
    pub(super) looks: Mutex<Looks>,
    pub(super) images: tokio::sync::Mutex<HashMap<Option<ImageChoice>, ImageId>>,
}

impl Inner {
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn host(&self, region: &Region, instance: &Instance) -> Option<Host> {
        instance::host(instance, &region.name, self.settings.address)
    }

    /// The user's own tags, of the fleet and of the role.
    pub(super) fn user_tags(&self, role: &Ec2Role) -> Tags {
        self.settings.tags.iter().chain(&role.tags).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    async fn hosts_in(&self, region: &Region, fleet: &str) -> Result<(Vec<Instance>, Vec<Host>)> {
        let instances = instance::list(region, [instance::tagged(tags::FLEET, fleet)]).await?;
        let hosts = instances.iter().filter_map(|instance| self.host(region, instance)).collect();
        Ok((instances, hosts))
    }

    pub(super) async fn hosts(&self, fleet: &str) -> Result<Vec<Host>> {
        let region = self.cloud.home().await?;
        let (instances, mut hosts) = self.hosts_in(&region, fleet).await?;
        self.seen().replace(&instances);
        sort(&mut hosts);
        Ok(hosts)
    }

    pub(super) async fn hosts_everywhere(self: Arc<Self>, fleet: &str) -> Result<Vec<Host>> {
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
            let listing = listing
                .map_err(|error| Error::unreachable(format!("cannot list the hosts of a region: {error}")))?;
            hosts.extend(listing?.1);
        }
        sort(&mut hosts);
        Ok(hosts)
    }
}

/// Sorts by role and number.
fn sort(hosts: &mut [Host]) {
    let number = |host: &Host| host.name.rsplit_once('-').and_then(|(_, number)| number.parse::<u32>().ok());
    hosts.sort_by_cached_key(|host| (host.role.clone(), number(host), host.id.clone()));
}
