//! Builds an image. An instance installs everything, seals itself and stops; its disk becomes the image. A second
//! instance boots from the image once and reports whether the image contains an identity. Each step leaves a tag, so an
//! interrupted bake can be continued by any controller.

use std::time::{Duration, Instant};

use aws_sdk_ec2::types::{Image as Ami, ImageState};

use super::{
    attempts,
    cloud::Region,
    disks::{COPY, pauses},
    images::owned,
    inner::Inner,
    instance::{self, tagged},
    recipe::{self, Recipe},
    request::Plan,
    tags::{self, Tags},
};
use crate::{
    config::{Ec2Role, OneOrMore},
    error::{Error, Result},
    holder, pki,
    provider::{Host, HostState, ImageId, Progress, Usage},
};

/// Timeout from the launch of an instance until it has stopped.
const BUILD: Duration = Duration::from_secs(20 * 60);
/// How long EC2 may take to show the last console lines of a stopped instance.
const LAST_WORDS: Duration = Duration::from_secs(90);
/// Number of console lines in an error.
const LINES: usize = 5;

impl Inner {
    /// Finds the image for the current settings, or builds it.
    pub(super) async fn bake(&self, progress: Progress<'_>) -> Result<ImageId> {
        let settings = &self.settings.bake;
        let base = settings.base.as_ref().ok_or_else(|| {
            Error::invalid("[ec2.bake] has no base")
                .hint("set `base` to the image to start from: an id, or { name = \"debian-12-amd64-*\", owner = \"136693071363\" }")
        })?;
        let recipe = Recipe::new(settings, self.image(Some(base)).await?)?;
        let (key, region) = (recipe.key(), self.cloud.home().await?);
        let found = match self.baked(&region, &key).await? {
            Some(found) => found,
            None => self.build(&region, &recipe, &key, progress).await?,
        };
        let image = ImageId(found.image_id().unwrap_or_default().to_owned());
        if !instance::tags_of(found.tags()).contains_key(tags::CHECKED) {
            self.available(&region, &image, progress).await?;
            self.try_out(&region, &image, &key, progress).await?;
        }
        self.images.lock().await.clear();
        Ok(image)
    }

    /// The image with this key, in any state.
    async fn baked(&self, region: &Region, key: &str) -> Result<Option<Ami>> {
        let filters = vec![tagged(tags::FLEET, &self.fleet), tagged(tags::KEY, key)];
        let found = owned(region, filters).await?;
        Ok(found.into_iter().find(|ami| !matches!(ami.state(), Some(ImageState::Failed | ImageState::Error))))
    }

    /// Creates the image, from a new builder or from one that an interrupted bake left. The image may still be pending.
    async fn build(
        &self,
        region: &Region,
        recipe: &Recipe,
        key: &str,
        progress: Progress<'_>,
    ) -> Result<Ami> {
        let left =
            instance::list(region, [tagged(tags::FLEET, &self.fleet), tagged(tags::BUILDER, key)]).await?;
        let mut left = left.iter().filter_map(|instance| self.host(region, instance));
        let builder = match left.find(|host| host.name == name("builder", key)) {
            Some(builder) => {
                progress(&format!("continuing with {} ({})", builder.name, builder.id));
                builder
            }
            None => self.machine(region, "builder", &recipe.base, key, &recipe.script()).await?,
        };
        progress(&format!("{} installs Magpie and Puppet, then stops", builder.id));
        let built = async {
            let version = self.ended_well(region, &builder, recipe::built).await?;
            progress(&format!("{} is done: creating the image from its disk", builder.id));
            self.copy_disk(region, &builder, &image_name(&self.fleet, key), &self.image_tags(key, &version))
                .await
        }
        .await;
        // The builder is not needed any more, whether it succeeded or not.
        let ended = self.destroy(&builder).await;
        let image = built?;
        ended?;
        let found = self.baked(region, key).await?;
        found.ok_or_else(|| {
            Error::unreachable(format!("the image {} disappeared right after it was created", image.0))
        })
    }

    /// Boots an image once. An image with an identity is removed, because all its hosts would share that identity.
    async fn try_out(
        &self,
        region: &Region,
        image: &ImageId,
        key: &str,
        progress: Progress<'_>,
    ) -> Result<()> {
        let trial = self.machine(region, "trial", image, key, &recipe::trial_script()).await?;
        progress(&format!(
            "{} boots from {} once, to check that the image has no identity",
            trial.id, image.0
        ));
        let verdict = self.ended_well(region, &trial, recipe::tried).await;
        self.destroy(&trial).await?;
        if let Err(error) = verdict {
            self.remove_image(image).await?;
            return Err(error.context(format!("the image {} failed its test boot and was removed", image.0)));
        }
        let tag = aws_sdk_ec2::types::Tag::builder().key(tags::CHECKED).value("yes").build();
        let tagged = region.client.create_tags().resources(&image.0).tags(tag).send().await;
        tagged.map(drop).map_err(|error| region.failed("CreateTags", error))
    }

    /// Launches an instance that runs a script and stops.
    async fn machine(
        &self,
        region: &Region,
        what: &str,
        image: &ImageId,
        key: &str,
        script: &str,
    ) -> Result<Host> {
        let bake = &self.settings.bake;
        let settings = Ec2Role {
            instance_type: Some(OneOrMore::One(bake.instance_type().to_owned())),
            subnets: bake.subnet.clone().map(|subnet| vec![subnet]),
            security_groups: (!bake.security_groups.is_empty()).then(|| bake.security_groups.clone()),
            public_address: bake.public_address,
            ..Ec2Role::default()
        };
        let (tid, now) = (pki::new_tid()?, jiff::Timestamp::now().as_second());
        let usage = Usage {
            holder: holder::this_process()?,
            lease_until: now.saturating_add_unsigned(BUILD.as_secs() + COPY.as_secs()),
            ..Usage::default()
        };
        let tags = tags::of_builder(&name(what, key), &self.fleet, &tid, key, &usage, &self.settings.tags);
        let plan = Plan { tid: &tid, image, settings: &settings, tags: &tags, user_data: script.as_bytes() };
        self.run(region, &plan, &attempts::order(&settings, &std::collections::BTreeMap::new())).await
    }

    /// Waits until an instance has stopped, and reads its verdict from the console.
    async fn ended_well(
        &self,
        region: &Region,
        machine: &Host,
        verdict: impl Fn(&str) -> Option<std::result::Result<String, String>>,
    ) -> Result<String> {
        self.down(region, machine).await?;
        let (deadline, mut pauses) = (Instant::now() + LAST_WORDS, pauses());
        loop {
            let console = self.console(machine).await?;
            match verdict(&console) {
                Some(Ok(said)) => return Ok(said),
                Some(Err(reason)) => {
                    return Err(with_console(
                        Error::invalid(format!("{}: {reason}", machine.name)),
                        &console,
                    ));
                }
                None if Instant::now() >= deadline => {
                    let error = format!("{} stopped without reporting success", machine.name);
                    return Err(with_console(Error::unreachable(error), &console));
                }
                None => pauses.pause().await,
            }
        }
    }

    async fn down(&self, region: &Region, machine: &Host) -> Result<()> {
        let (deadline, mut pauses) = (Instant::now() + BUILD, pauses());
        loop {
            pauses.pause().await;
            let found = self.alive(region, machine).await?;
            if instance::state(&found) == Some(HostState::Stopped) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let error = format!("{} is still up after {} minutes", machine.name, BUILD.as_secs() / 60);
                let console = self.console(machine).await.unwrap_or_default();
                return Err(with_console(Error::unreachable(error), &console));
            }
        }
    }

    fn image_tags(&self, key: &str, version: &str) -> Tags {
        let own = [(tags::FLEET, self.fleet.as_str()), (tags::KEY, key), (tags::AGENT, version)];
        let mut all = self.settings.tags.clone();
        all.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
        all
    }
}

fn name(what: &str, key: &str) -> String {
    format!("{what}-{}", key.get(..8).unwrap_or(key))
}

/// EC2 keeps names unique within an account and region, so two bakes of the same content make one image.
fn image_name(fleet: &str, key: &str) -> String {
    format!("magpie-{fleet}-{key}")
}

fn with_console(error: Error, console: &str) -> Error {
    let lines: Vec<&str> = console.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    if last.is_empty() {
        error.hint("its console is empty")
    } else {
        error.hint(format!("last lines of its console: {}", last.join(" | ")))
    }
}
