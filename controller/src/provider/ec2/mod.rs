//! EC2 instances as hosts, at Amazon or at any endpoint with the same protocol. Tags are the only state, so all
//! controllers see the same.
//!
//! Only this module uses the SDK. `request` and `tags` hold what is sent to EC2, `explain` the messages for its errors.

mod attempts;
mod bake;
mod clone;
mod cloud;
mod dial;
mod disks;
mod explain;
mod failure;
mod fingerprint;
mod images;
mod inner;
mod instance;
mod launch;
mod lifecycle;
mod looks;
mod recipe;
mod request;
mod seen;
mod settling;
mod tags;

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tonic::async_trait;

use self::{cloud::Cloud, inner::Inner};
use super::{Fingerprint, Host, Image, ImageId, Kind, Launch, Progress, Provider, Stream};
use crate::{
    config::{ConnectConfig, Ec2Config, RoleConfig},
    error::Result,
};

/// The provider; clones share their connections.
#[derive(Clone, Debug)]
pub struct Ec2(Arc<Inner>);

impl Ec2 {
    /// Stores the settings. Network and credentials are not used before the first call.
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

#[async_trait]
impl Provider for Ec2 {
    fn kind(&self) -> Kind {
        Kind::Ec2
    }

    /// Large instances test their memory first, and the image may have to be loaded first.
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
