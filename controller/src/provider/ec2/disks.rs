//! Images of a host's disks, which EC2 creates in the background.

use std::time::{Duration, Instant};

use aws_sdk_ec2::types::{ImageState, ResourceType, TagSpecification};

use super::{cloud::Region, failure::Failure, images::owned, inner::Inner, request, tags::Tags};
use crate::{
    error::{Error, Result},
    pauses::Pauses,
    provider::{Host, ImageId, Progress},
};

/// Timeout for EC2 to create an image.
pub(super) const COPY: Duration = Duration::from_secs(60 * 60);

/// Pauses between polls of something that takes minutes.
pub(super) fn pauses() -> Pauses {
    Pauses::new(Duration::from_secs(2), Duration::from_secs(15))
}

impl Inner {
    /// Creates an image of a host's disks, or finds the existing one with that name.
    pub(super) async fn copy_disk(
        &self,
        region: &Region,
        host: &Host,
        name: &str,
        tags: &Tags,
    ) -> Result<ImageId> {
        let specification = |kind| {
            TagSpecification::builder().resource_type(kind).set_tags(Some(request::list(tags))).build()
        };
        let made = region
            .client
            .create_image()
            .instance_id(&host.id)
            .name(name)
            .no_reboot(true)
            .tag_specifications(specification(ResourceType::Image))
            .tag_specifications(specification(ResourceType::Snapshot))
            .send()
            .await;
        match made.map_err(Failure::from) {
            Ok(made) => Ok(ImageId(made.image_id.unwrap_or_default())),
            Err(failure) if failure.code == "InvalidAMIName.Duplicate" => {
                let found = owned(region, vec![("name".to_owned(), vec![name.to_owned()])]).await?;
                let id = found.first().and_then(|ami| ami.image_id()).map(|id| ImageId(id.to_owned()));
                id.ok_or_else(|| region.explain("CreateImage", &failure))
            }
            Err(failure) => Err(region.explain("CreateImage", &failure).context_once(&host.name)),
        }
    }

    /// Waits until an image is available.
    pub(super) async fn available(
        &self,
        region: &Region,
        image: &ImageId,
        progress: Progress<'_>,
    ) -> Result<()> {
        let (started, mut pauses, mut told) = (Instant::now(), pauses(), false);
        loop {
            let found = owned(region, vec![("image-id".to_owned(), vec![image.0.clone()])]).await?;
            match found.first().and_then(|ami| ami.state()) {
                Some(ImageState::Available) => return Ok(()),
                Some(ImageState::Failed | ImageState::Error | ImageState::Invalid) => {
                    let reason = found
                        .first()
                        .and_then(|ami| ami.state_reason()?.message())
                        .unwrap_or("EC2 gave no reason");
                    return Err(Error::unreachable(format!("the image {} failed: {reason}", image.0)));
                }
                _ if started.elapsed() >= COPY => {
                    return Err(Error::unreachable(format!(
                        "the image {} is still not available after {} minutes",
                        image.0,
                        COPY.as_secs() / 60
                    )));
                }
                _ if !told => progress(&format!("waiting for EC2 to create {}", image.0)),
                _ => {}
            }
            told = true;
            pauses.pause().await;
        }
    }
}
