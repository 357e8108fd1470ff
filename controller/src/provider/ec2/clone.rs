//! A copy of a host: an image of its disks, in passing, and a launch from that.

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

/// Run by cloud-init at the copy's first boot. The recorder has begun by then: what it wrote on the copy goes as well.
const FORGET: &str = "#!/bin/sh\n\
    systemctl stop magpie-record.service\n\
    rm -rf /var/lib/magpie/history\n\
    systemctl start magpie-record.service\n";

impl Inner {
    /// Copies a host as it is at this moment, without stopping it.
    pub(super) async fn clone_host(
        &self,
        host: &Host,
        launch: &Launch,
        with_record: bool,
        progress: Progress<'_>,
    ) -> Result<Host> {
        let region = self.cloud.in_region(&host.region).await?;
        let name = format!("magpie-clone-{}-{}", host.name, launch.tid);
        progress(&format!("{}: EC2 copies its disks, which may take minutes", host.name));
        let image = self.copy_disk(&region, host, &name, &self.passing_tags(host, launch)).await?;
        let copy = self.launch_copy(&region, &image, launch, with_record, progress).await;
        // Its disks are copies of the snapshots, not parts of them: these are of no more use.
        let removed = self.remove_image_in(&region, &image).await;
        let copy = copy?;
        removed.map_err(|error| {
            error.hint(format!("{} runs; `ctl image prune` removes {}", copy.name, image.0))
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
        // The user's own script ran on the original; what it did is on the disk.
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
