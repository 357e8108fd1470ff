//! The layers below an image, other images and a base, as encoded in its name.

use std::{
    fs,
    iter::successors,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    provider::{
        ImageId,
        local::{failure::Doing, state::StateDir},
    },
};

/// The image directly below this one; `None` if that is a base. A base's name is its key; an image's name is the name
/// of the layer below, and its own key.
pub(crate) fn below(image: &str) -> Option<&str> {
    image.rsplit_once('-').map(|(below, _)| below).filter(|below| below.contains('-'))
}

/// The layers of an image, top first, relative to the state directory.
pub(crate) fn layers(state: &StateDir, id: &ImageId) -> Result<Vec<PathBuf>> {
    let unknown = || {
        Error::invalid(format!("there is no image {}", id.0))
            .hint("`ctl bake` builds the current one: the agent may have changed since")
    };
    let (base, _) = id.0.split_once('-').ok_or_else(unknown)?;
    let images = successors(Some(id.0.as_str()), |id| below(id)).map(|id| Path::new("images").join(id));
    let layers: Vec<PathBuf> = images.chain([Path::new("bases").join(base)]).collect();
    let known = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if known(&id.0) && layers.iter().all(|layer| state.root().join(layer).is_dir()) {
        Ok(layers)
    } else {
        Err(unknown())
    }
}

/// All complete images, ordered by name.
pub(crate) fn list(state: &StateDir) -> Result<Vec<ImageId>> {
    let what = || format!("cannot list {}", state.images().display());
    let mut images = Vec::new();
    for entry in fs::read_dir(state.images()).doing(what)? {
        let Ok(name) = entry.doing(what)?.file_name().into_string() else { continue };
        images.extend(Some(ImageId(name)).filter(|id| layers(state, id).is_ok()));
    }
    images.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(images)
}
