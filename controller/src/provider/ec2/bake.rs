//! Makes an image: an instance installs everything, seals itself and stops; its disk becomes the image; a second
//! instance boots from it once and says whether it carries an identity. Each step leaves a tag behind, so that
//! whoever comes after an interruption goes on from there.

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

/// How long a machine may take from its launch to its end.
const BUILD: Duration = Duration::from_secs(20 * 60);
/// How long the console of a machine that has stopped may take to show its last words.
const LAST_WORDS: Duration = Duration::from_secs(90);
/// Lines of a console that an error shows.
const LINES: usize = 5;

impl Inner {
    /// The image of the settings' content, made if need be.
    pub(super) async fn bake(&self, progress: Progress<'_>) -> Result<ImageId> {
        let settings = &self.settings.bake;
        let base = settings.base.as_ref().ok_or_else(|| {
            Error::invalid("[ec2.bake] has no base")
                .hint("it is the image to begin with: an id, or { name = \"debian-12-amd64-*\", owner = \"136693071363\" }")
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

    /// From nothing, or from a builder that somebody left, to an image that may still be pending.
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
                progress(&format!("going on with {} ({})", builder.name, builder.id));
                builder
            }
            None => self.machine(region, "builder", &recipe.base, key, &recipe.script()).await?,
        };
        progress(&format!("{} installs Magpie and Puppet; it stops when it is done", builder.id));
        let built = async {
            let version = self.ended_well(region, &builder, recipe::built).await?;
            progress(&format!("{} is done: its disk becomes an image", builder.id));
            self.copy_disk(region, &builder, &image_name(&self.fleet, key), &self.image_tags(key, &version))
                .await
        }
        .await;
        // Whatever came of it, nobody needs the machine any more.
        let ended = self.destroy(&builder).await;
        let image = built?;
        ended?;
        let found = self.baked(region, key).await?;
        found.ok_or_else(|| {
            Error::unreachable(format!("the image {} is gone as soon as it was made", image.0))
        })
    }

    /// Boots an image once. One with an identity would make all its hosts the same: it goes.
    async fn try_out(
        &self,
        region: &Region,
        image: &ImageId,
        key: &str,
        progress: Progress<'_>,
    ) -> Result<()> {
        let trial = self.machine(region, "trial", image, key, &recipe::trial_script()).await?;
        progress(&format!("{} boots from {} once, to see that it carries no identity", trial.id, image.0));
        let verdict = self.ended_well(region, &trial, recipe::tried).await;
        self.destroy(&trial).await?;
        if let Err(error) = verdict {
            self.remove_image(image).await?;
            return Err(error.context(format!("the image {} was removed again", image.0)));
        }
        let tag = aws_sdk_ec2::types::Tag::builder().key(tags::CHECKED).value("yes").build();
        let tagged = region.client.create_tags().resources(&image.0).tags(tag).send().await;
        tagged.map(drop).map_err(|error| region.failed("CreateTags", error))
    }

    /// Launches a machine that runs a script and stops.
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

    /// Waits until a machine has stopped, and reads its verdict.
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
                    let error = format!("{} stopped and did not say that it was done", machine.name);
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
                let error = format!("{} has not stopped for {} minutes", machine.name, BUILD.as_secs() / 60);
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

/// Unique within an account and region, so that two bakes of the same make one image.
fn image_name(fleet: &str, key: &str) -> String {
    format!("magpie-{fleet}-{key}")
}

fn with_console(error: Error, console: &str) -> Error {
    let lines: Vec<&str> = console.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    if last.is_empty() {
        error.hint("its console is empty")
    } else {
        error.hint(format!("the end of its console: {}", last.join(" | ")))
    }
}
