//! Images: found by a role's settings, listed, and removed with their snapshots.

use aws_sdk_ec2::types::Image as Ami;

use super::{
    cloud::Region,
    inner::Inner,
    instance::{self, tagged},
    tags,
};
use crate::{
    config::ImageChoice,
    error::{Error, Result},
    provider::{Image, ImageId, Kind},
};

/// Filters of a listing.
type Filters = Vec<(String, Vec<String>)>;

impl Inner {
    /// The image of a role. EC2's answers are cached.
    pub(super) async fn image(&self, choice: Option<&ImageChoice>) -> Result<ImageId> {
        match choice {
            Some(ImageChoice::Id(id)) => return Ok(ImageId(id.clone())),
            // RunInstances itself looks it up (EC2 user guide, "Use a Systems Manager parameter instead of an AMI ID").
            Some(ImageChoice::Parameter(named)) => {
                return Ok(ImageId(format!("resolve:ssm:{}", named.parameter)));
            }
            _ => {}
        }
        // Held during the call to EC2, so that concurrent callers wait for one answer.
        let mut known = self.images.lock().await;
        if let Some(image) = known.get(&choice.cloned()) {
            return Ok(image.clone());
        }
        let region = self.cloud.home().await?;
        let image = match choice {
            Some(ImageChoice::Newest(newest)) => {
                let filters = vec![("name".to_owned(), vec![newest.name.clone()])];
                let found = available(&region, &newest.owner, filters).await?;
                newest_of(&found).ok_or_else(|| {
                    Error::invalid(format!(
                        "no image of owner {} matches {:?} in {}",
                        newest.owner, newest.name, region.name
                    ))
                    .hint(format!(
                        "an image exists in one region only; ctl uses {}, from {}",
                        region.name, region.place.region_source
                    ))
                })?
            }
            _ => {
                let filters = vec![tagged(tags::FLEET, &self.fleet), tagged(tags::CHECKED, "yes")];
                let found = available(&region, "self", filters).await?;
                newest_of(&found).ok_or_else(|| {
                    Error::invalid(format!("this fleet has no image in {}", region.name))
                        .hint("`ctl bake --provider ec2` makes one; or set `image` in [roles.NAME.ec2]")
                })?
            }
        };
        known.insert(choice.cloned(), image.clone());
        Ok(image)
    }

    /// All images built for this fleet, newest first.
    pub(super) async fn list_images(&self) -> Result<Vec<Image>> {
        let region = self.cloud.home().await?;
        let found = owned(&region, vec![tagged(tags::FLEET, &self.fleet)]).await?;
        let mut images: Vec<Image> = found.iter().filter_map(|ami| image(ami, &region.name)).collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.baked_at));
        Ok(images)
    }

    /// Removes an image and its snapshots. Safe to repeat.
    pub(super) async fn remove_image(&self, id: &ImageId) -> Result<()> {
        self.remove_image_in(&self.cloud.home().await?, id).await
    }

    /// [`Inner::remove_image`] in a given region.
    pub(super) async fn remove_image_in(&self, region: &Region, id: &ImageId) -> Result<()> {
        let found = owned(region, vec![("image-id".to_owned(), vec![id.0.clone()])]).await?;
        let Some(ami) = found.first() else { return Ok(()) };
        let removed = region.client.deregister_image().image_id(&id.0).send().await;
        removed.map_err(|error| region.failed("DeregisterImage", error))?;
        // Snapshots have the image's tags, so they can be found if this is interrupted here.
        for snapshot in snapshots(ami) {
            let removed = region.client.delete_snapshot().snapshot_id(snapshot).send().await;
            removed.map_err(|error| region.failed("DeleteSnapshot", error))?;
        }
        Ok(())
    }
}

fn snapshots(ami: &Ami) -> impl Iterator<Item = &str> {
    ami.block_device_mappings().iter().filter_map(|device| device.ebs()?.snapshot_id())
}

async fn available(region: &Region, owner: &str, mut filters: Filters) -> Result<Vec<Ami>> {
    filters.push(("state".to_owned(), vec!["available".to_owned()]));
    describe(region, owner, filters).await
}

/// Images of this account, in any state.
pub(super) async fn owned(region: &Region, filters: Filters) -> Result<Vec<Ami>> {
    describe(region, "self", filters).await
}

async fn describe(region: &Region, owner: &str, filters: Filters) -> Result<Vec<Ami>> {
    let filters = filters.into_iter().map(instance::filter).collect();
    let mut pages =
        region.client.describe_images().owners(owner).set_filters(Some(filters)).into_paginator().send();
    let mut images = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| region.failed("DescribeImages", error))?;
        images.extend(page.images.unwrap_or_default());
    }
    Ok(images)
}

/// Latest creation date wins; ties are broken by id, so that all controllers choose the same image.
fn newest_of(images: &[Ami]) -> Option<ImageId> {
    let newest = images.iter().max_by_key(|ami| (ami.creation_date(), ami.image_id()))?;
    newest.image_id().map(|id| ImageId(id.to_owned()))
}

/// An image as users see it. The temporary image of a clone is never `finished`.
fn image(ami: &Ami, region: &str) -> Option<Image> {
    let tags = instance::tags_of(ami.tags());
    let created = ami.creation_date().and_then(|date| date.parse::<jiff::Timestamp>().ok());
    Some(Image {
        provider: Kind::Ec2,
        id: ImageId(ami.image_id()?.to_owned()),
        name: ami.name().unwrap_or_default().to_owned(),
        agent: tags.get(tags::AGENT).cloned().unwrap_or_default(),
        baked_at: created.map(jiff::Timestamp::as_second).unwrap_or_default(),
        region: region.to_owned(),
        finished: tags.contains_key(tags::CHECKED),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ami(id: &str, created: &str) -> Ami {
        Ami::builder().image_id(id).creation_date(created).name(id).build()
    }

    #[test]
    fn the_newest_image_is_used() {
        let all = [
            ami("ami-3", "2026-01-02T00:00:00.000Z"),
            ami("ami-1", "2026-03-01T00:00:00.000Z"),
            ami("ami-2", "2026-03-01T00:00:00.000Z"),
        ];
        assert_eq!(newest_of(&all), Some(ImageId("ami-2".into())));
        assert_eq!(newest_of(&[]), None);
    }

    #[test]
    fn an_image_says_when_it_was_made() {
        let image = image(&ami("ami-1", "2026-03-01T00:00:00.000Z"), "eu-central-1").expect("an id");
        assert_eq!((image.baked_at, image.finished), (1_772_323_200, false));
    }
}
