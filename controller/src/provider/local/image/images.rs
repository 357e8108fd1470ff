//! Listing and removing images.

use std::{fs, path::Path, time::SystemTime};

use super::{layers, prune};
use crate::{
    error::{Error, Kind as Failure, Result},
    provider::{
        Image, ImageId, Kind,
        local::{
            failure::Doing,
            namespace::{tree::remove_tree, userns::IdMap},
            record::Record,
            state::{StateDir, lock},
        },
    },
};

/// All complete images, newest first.
pub(crate) fn list(state: &StateDir) -> Result<Vec<Image>> {
    let images: Result<Vec<Image>> = layers::list(state)?.into_iter().map(|id| image(state, id)).collect();
    let mut images = images?;
    images.sort_by_key(|image| std::cmp::Reverse(image.baked_at));
    Ok(images)
}

fn image(state: &StateDir, id: ImageId) -> Result<Image> {
    let path = state.images().join(&id.0);
    let baked = fs::metadata(&path).and_then(|metadata| metadata.modified());
    let baked = baked.doing(|| format!("cannot inspect {}", path.display()))?;
    let age = baked.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(Image {
        provider: Kind::Local,
        id,
        name: String::new(),
        agent: String::new(),
        baked_at: i64::try_from(age.as_secs()).unwrap_or(i64::MAX),
        region: String::new(),
        finished: true,
    })
}

/// Removes an image, unless a host uses it. If this is interrupted, the next bake removes the rest.
pub(crate) fn remove(state: &StateDir, ctl: &Path, map: &IdMap, image: &ImageId) -> Result<()> {
    let path = state.images().join(&image.0);
    let doomed = {
        let _turn = lock(&state.allocation_lock())?;
        if let Some(host) = Record::all(state)?.into_iter().find(|record| record.image == *image) {
            return Err(Error::new(Failure::Busy, format!("{} boots from the image {}", host.name, image.0)));
        }
        if !path.exists() {
            return Ok(());
        }
        prune::doom(&path)?
    };
    remove_tree(ctl, map, &doomed)
}
