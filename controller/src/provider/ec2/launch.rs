//! Launches exactly one instance, despite shortages, retries and interruptions.

use std::{
    cmp::Ordering,
    time::{Duration, Instant},
};

use aws_sdk_ec2::types::Instance;
use proto::identity::userdata;

use super::{
    attempts::{self, Attempt},
    cloud::Region,
    failure::Failure,
    inner::Inner,
    instance,
    request::{self, Plan},
    settling::SETTLED,
    tags,
};
use crate::{
    error::{Error, Result},
    pauses::Pauses,
    provider::{Host, Launch, name},
};

/// How often to change a name if other controllers take the new one too.
const RENAMES: usize = 5;

impl Inner {
    /// Launches a host, or finds the one that this transaction already launched.
    pub(super) async fn launch(&self, launch: &Launch) -> Result<Host> {
        let extra = launch.settings.ec2.user_data.as_ref().map(|file| file.content.as_slice());
        self.launch_in(&self.cloud.home().await?, launch, extra).await
    }

    /// [`Inner::launch`] in a region, with `extra` for cloud-init.
    pub(super) async fn launch_in(
        &self,
        region: &Region,
        launch: &Launch,
        extra: Option<&[u8]>,
    ) -> Result<Host> {
        let known = self.seen().instances.get(&launch.tid).cloned();
        if let Some(id) = known
            && let Some(host) = self.describe(region, &id).await?.and_then(|found| self.host(region, &found))
        {
            return Ok(host);
        }
        let user_data = userdata::compose(&launch.enrol_document, extra).map_err(Error::invalid)?;
        let plan = Plan {
            tid: &launch.tid,
            image: &launch.image,
            settings: &launch.settings.ec2,
            tags: &tags::of_launch(launch, &self.user_tags(&launch.settings.ec2)),
            user_data: &user_data,
        };
        let attempts = self.seen().attempts(launch);
        let host = self.run(region, &plan, &attempts).await?;
        self.seen().instances.insert(launch.tid.clone(), host.id.clone());
        self.with_own_name(region, host).await
    }

    /// Makes the attempts in order, as long as the next one may succeed.
    pub(super) async fn run(&self, region: &Region, plan: &Plan<'_>, attempts: &[Attempt]) -> Result<Host> {
        let mut tried: Vec<String> = Vec::new();
        let mut refused = None;
        for attempt in attempts {
            if let Some((failed, shortage, _)) = &refused
                && !attempts::may_do_better(failed, *shortage, attempt)
            {
                continue;
            }
            let mut failure = match request::run(plan, attempt).send_with(&region.client).await {
                Ok(reply) => return self.launched(region, reply.instances().first()),
                Err(error) => Failure::from(error),
            };
            attempt.instance_type.clone_into(&mut failure.instance_type);
            if failure.is_repeated() {
                return self.by_transaction(region, plan.tid, &failure).await;
            }
            let Some(shortage) = failure.shortage() else {
                return Err(region.explain("RunInstances", &failure));
            };
            tried.push(format!("{attempt}: {}", failure.code));
            refused = Some((attempt.clone(), shortage, failure));
        }
        let Some((_, _, failure)) = refused else {
            return Err(Error::invalid("no instance type is configured"));
        };
        Err(region.explain("RunInstances", &failure).hint(format!("tried: {}", tried.join("; "))))
    }

    fn launched(&self, region: &Region, instance: Option<&Instance>) -> Result<Host> {
        instance.and_then(|instance| self.host(region, instance)).ok_or_else(|| {
            Error::unreachable(format!(
                "EC2 in {} terminated the instance during its launch{}",
                region.name,
                instance.map(|instance| format!(": {}", instance::reason(instance))).unwrap_or_default()
            ))
        })
    }

    /// The host that an earlier attempt of this transaction launched with other parameters.
    async fn by_transaction(&self, region: &Region, tid: &str, failure: &Failure) -> Result<Host> {
        let (deadline, mut pauses) =
            (Instant::now() + SETTLED, Pauses::new(Duration::from_secs(1), SETTLED / 6));
        loop {
            let found = instance::list(region, [instance::tagged(tags::TID, tid)]).await?;
            if let Some(host) = found.iter().find_map(|instance| self.host(region, instance)) {
                return Ok(host);
            }
            if Instant::now() >= deadline {
                return Err(region
                    .explain("RunInstances", failure)
                    .hint("an earlier attempt at this launch had other settings, and its instance is gone"));
            }
            pauses.pause().await;
        }
    }

    /// If two controllers chose the same name at the same time, the younger host gets another name.
    async fn with_own_name(&self, region: &Region, mut host: Host) -> Result<Host> {
        for round in 0..RENAMES {
            let filters =
                [instance::tagged(tags::FLEET, &host.fleet), instance::tagged(tags::ROLE, &host.role)];
            let found = instance::list(region, filters).await?;
            let all: Vec<Host> = found.iter().filter_map(|instance| self.host(region, instance)).collect();
            let Some(name) = other_name(&host, &all, round == 0) else { break };
            host.name = name;
            self.mark(&host).await?;
        }
        Ok(host)
    }
}

/// A new name for `host` if an older host has the same name. EC2's times are in whole seconds. Of two hosts of the same
/// second, one may not have seen the other yet, so in the first round each gives way; after that the one with the
/// greater id does.
fn other_name(host: &Host, all: &[Host], first: bool) -> Option<String> {
    let own = all.iter().find(|listed| listed.id == host.id).unwrap_or(host).launched_at;
    let older = |other: &&Host| match other.launched_at.cmp(&own) {
        Ordering::Less => true,
        Ordering::Equal => first || other.id < host.id,
        Ordering::Greater => false,
    };
    all.iter().filter(|other| other.name == host.name && other.id != host.id).find(older)?;
    Some(name::free(&host.role, all.iter().map(|host| host.name.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Kind;

    fn host(id: &str, name: &str, launched_at: i64) -> Host {
        Host { launched_at, ..Host::example(Kind::Ec2, id, name) }
    }

    #[test]
    fn the_younger_of_a_name_takes_the_lowest_free() {
        let all = [host("i-1", "db-1", 10), host("i-2", "db-1", 11), host("i-3", "db-2", 5)];
        assert_eq!(other_name(&all[1], &all, true).as_deref(), Some("db-3"));
        assert_eq!(other_name(&all[0], &all, true), None);
        assert_eq!(other_name(&all[2], &all, true), None);
    }

    #[test]
    fn of_the_same_second_all_give_way_and_then_one() {
        let all = [host("i-1", "db-1", 10), host("i-2", "db-1", 10)];
        let changed =
            |first| all.iter().map(|host| other_name(host, &all, first).is_some()).collect::<Vec<_>>();
        assert_eq!((changed(true), changed(false)), (vec![true, true], vec![false, true]));
    }

    #[test]
    fn a_listing_that_lags_behind_is_no_reason_to_change() {
        assert_eq!(other_name(&host("i-1", "db-1", 10), &[], true), None);
    }
}
