//! Decides which images are in use and which can be removed.

use std::collections::HashMap;

use crate::{
    config::{Config, ImageChoice},
    provider::{Host, Image, ImageId, Kind},
};

/// How many hosts boot from each image.
pub(crate) type Uses = HashMap<(Kind, ImageId), usize>;

/// An image that is not finished after this many seconds is abandoned.
const LEFT: i64 = 2 * 3600;

/// Counts the hosts that boot from each image. Images that a role names by id have an entry too, so that they are kept.
pub(crate) fn uses(config: &Config, hosts: &[Host]) -> Uses {
    let named = config.roles.values().filter_map(|role| match &role.ec2.image {
        Some(ImageChoice::Id(id)) => Some(((Kind::Ec2, ImageId(id.clone())), 0)),
        _ => None,
    });
    let mut uses: Uses = named.collect();
    for host in hosts {
        *uses.entry((host.provider, host.image.clone())).or_default() += 1;
    }
    uses
}

/// For each provider: unused images that are not among the `keep` newest, and abandoned unfinished images. `now` is in
/// seconds since the Unix epoch.
pub(crate) fn superfluous<'a>(
    images: &'a [Image],
    uses: &'a Uses,
    keep: usize,
    now: i64,
) -> impl Iterator<Item = &'a Image> {
    let mut finished: HashMap<Kind, usize> = HashMap::new();
    images.iter().filter(move |image| {
        let used = uses.contains_key(&(image.provider, image.id.clone()));
        if !image.finished {
            return !used && image.baked_at.saturating_add(LEFT) < now;
        }
        let newer = finished.entry(image.provider).or_default();
        *newer += 1;
        !used && *newer > keep
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn image(id: &str, age: i64, finished: bool) -> Image {
        Image {
            provider: Kind::Ec2,
            id: ImageId(id.into()),
            name: String::new(),
            agent: String::new(),
            baked_at: NOW - age,
            region: String::new(),
            finished,
        }
    }

    fn gone(images: &[Image], uses: &Uses, keep: usize) -> Vec<String> {
        superfluous(images, uses, keep, NOW).map(|image| image.id.0.clone()).collect()
    }

    #[test]
    fn the_newest_and_the_used_stay() {
        let images = ["a", "b", "c", "d"].map(|id| image(id, 10, true));
        let uses = Uses::from([((Kind::Ec2, ImageId("c".into())), 1)]);
        assert_eq!(gone(&images, &uses, 1), ["b", "d"]);
        assert_eq!(gone(&images, &uses, 0), ["a", "b", "d"]);
        assert_eq!(gone(&images, &uses, 4), [""; 0]);
    }

    #[test]
    fn another_provider_has_its_own_newest() {
        let images = [image("a", 1, true), Image { provider: Kind::Local, ..image("b", 2, true) }];
        assert_eq!(gone(&images, &Uses::new(), 1), [""; 0]);
    }

    #[test]
    fn an_abandoned_unfinished_image_is_removed() {
        let images = [image("a", 60, false), image("b", LEFT + 1, false), image("c", 90_000, true)];
        assert_eq!(gone(&images, &Uses::new(), 3), ["b"]);
    }
}
