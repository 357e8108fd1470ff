//! Cloning a host: a temporary image of its disks, and a launch from that image.

use std::time::{Duration, Instant};

use super::{
    cloud::Region,
    inner::Inner,
    instance,
    tags::{self, Tags},
};
use crate::{
    error::Result,
    pauses::Pauses,
    provider::{Host, ImageId, Launch, Progress},
};

/// How long an instance may take from pending to running.
const RUNNING: Duration = Duration::from_secs(120);

/// Run by cloud-init at the copy's first boot. The recorder has already started; its first samples are removed too.
const FORGET: &str = "#!/bin/sh\n\
    systemctl stop magpie-record.service\n\
    rm -rf /var/lib/magpie/history\n\
    systemctl start magpie-record.service\n";

impl Inner {
    /// Clones a host in its current state, without stopping it.
    pub(super) async fn clone_host(
        &self,
        host: &Host,
        launch: &Launch,
        with_record: bool,
        progress: Progress<'_>,
    ) -> Result<Host> {
        let region = self.cloud.in_region(&host.region).await?;
        let name = format!("magpie-clone-{}-{}", host.name, launch.tid);
        progress(&format!("{}: EC2 is copying its disks; this may take minutes", host.name));
        let image = self.copy_disk(&region, host, &name, &self.passing_tags(host, launch)).await?;
        let copy = self.launch_copy(&region, &image, launch, with_record, progress).await;
        // The new disks are copies of the snapshots, so the snapshots are no longer needed.
        let removed = self.remove_image_in(&region, &image).await;
        let copy = copy?;
        removed.map_err(|error| {
            error.hint(format!(
                "{} is running; `ctl image prune --yes` removes the leftover image {}",
                copy.name, image.0
            ))
        })?;
        Ok(copy)
    }

    async fn launch_copy(
        &self,
        region: &Region,
        image: &ImageId,
        launch: &Launch,
        with_record: bool,
        progress: Progress<'_>,
    ) -> Result<Host> {
        self.available(region, image, progress).await?;
        let launch = Launch { image: image.clone(), ..launch.clone() };
        // The user's own script is left out: it ran on the original, and its effects are on the disk.
        let extra = (!with_record).then_some(FORGET.as_bytes());
        let copy = self.launch_in(region, &launch, extra).await?;
        let (deadline, mut pauses) =
            (Instant::now() + RUNNING, Pauses::new(Duration::from_secs(1), RUNNING / 12));
        while Instant::now() < deadline {
            if instance::is_running(&self.alive(region, &copy).await?) {
                break;
            }
            pauses.pause().await;
        }
        Ok(copy)
    }

    fn passing_tags(&self, host: &Host, launch: &Launch) -> Tags {
        let own = [(tags::FLEET, &self.fleet), (tags::CLONE_OF, &host.name), (tags::TID, &launch.tid)];
        let mut all = self.settings.tags.clone();
        all.extend(own.map(|(key, value)| (key.to_owned(), value.clone())));
        all
    }
}
