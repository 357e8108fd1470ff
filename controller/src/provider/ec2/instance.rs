//! Instances as hosts.

use aws_sdk_ec2::types::{Instance, InstanceLifecycleType, InstanceStateName, Tag};

use super::{
    cloud::Region,
    tags::{self, Tags},
};
use crate::{
    config::Address,
    error::Result,
    provider::{Host, HostState, ImageId, Kind},
};

/// Tags by key.
pub(super) fn tags_of(tags: &[Tag]) -> Tags {
    tags.iter()
        .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())))
        .collect()
}

/// State as a host; `None` if the instance is terminating or terminated.
pub(super) fn state(instance: &Instance) -> Option<HostState> {
    match instance.state().and_then(|state| state.name())? {
        InstanceStateName::Pending | InstanceStateName::Running => Some(HostState::Running),
        InstanceStateName::Stopping => Some(HostState::Stopping),
        InstanceStateName::Stopped => Some(HostState::Stopped),
        _ => None,
    }
}

/// Whether EC2 reports `running`: the disks exist, and the instance is booting or up.
pub(super) fn is_running(instance: &Instance) -> bool {
    instance.state().and_then(|state| state.name()) == Some(&InstanceStateName::Running)
}

/// An instance as a host; `None` if it has ended. Machines that build images are listed too, so that they can be
/// cleared up; they have no role, so that they are not used as hosts.
pub(super) fn host(instance: &Instance, region: &str, address: Address) -> Option<Host> {
    let state = state(instance)?;
    let tags = tags_of(instance.tags());
    let identity = tags::identity(&tags);
    let id = instance.instance_id()?.to_owned();
    Some(Host {
        provider: Kind::Ec2,
        name: if identity.name.is_empty() { id.clone() } else { identity.name },
        fleet: identity.fleet,
        role: identity.role,
        tid: if identity.tid.is_empty() { id.clone() } else { identity.tid },
        id,
        state,
        address: self::address(instance, address),
        image: ImageId(instance.image_id().unwrap_or_default().to_owned()),
        memory: None,
        class: class(instance),
        spot: is_spot(instance),
        region: region.to_owned(),
        launched_at: launched_at(instance),
        fingerprint: identity.fingerprint,
        clone_of: identity.clone_of,
        usage: identity.usage,
    })
}

/// The address to dial; empty while the instance has none.
pub(super) fn address(instance: &Instance, which: Address) -> String {
    let address = match which {
        Address::Private => instance.private_ip_address(),
        Address::Public => instance.public_ip_address(),
    };
    address.unwrap_or_default().to_owned()
}

/// State of an instance with EC2's reason.
pub(super) fn reason(instance: &Instance) -> String {
    let state = instance.state().and_then(|state| state.name()).map_or("gone", InstanceStateName::as_str);
    match instance.state_reason() {
        Some(reason) => {
            format!(
                "it is {state}: {} ({})",
                reason.message().unwrap_or_default(),
                reason.code().unwrap_or_default()
            )
        }
        None => format!("it is {state}"),
    }
}

fn class(instance: &Instance) -> String {
    let name = instance.instance_type().map_or("", |kind| kind.as_str());
    if is_spot(instance) { format!("{name} spot") } else { name.to_owned() }
}

fn is_spot(instance: &Instance) -> bool {
    instance.instance_lifecycle() == Some(&InstanceLifecycleType::Spot)
}

/// Seconds since the Unix epoch. `launch_time` is the time of the last start; the first network interface and the
/// disks are as old as the instance.
fn launched_at(instance: &Instance) -> i64 {
    let interfaces = instance.network_interfaces().iter();
    let attached = interfaces.filter_map(|interface| interface.attachment()?.attach_time());
    let disks = instance.block_device_mappings().iter().filter_map(|device| device.ebs()?.attach_time());
    let times = attached.chain(disks).chain(instance.launch_time());
    times.map(aws_sdk_ec2::primitives::DateTime::secs).min().unwrap_or_default()
}

/// All matching instances that have not ended.
pub(super) async fn list(
    region: &Region,
    filters: impl IntoIterator<Item = (String, Vec<String>)>,
) -> Result<Vec<Instance>> {
    let states = ["pending", "running", "stopping", "stopped"].map(str::to_owned).to_vec();
    let filters = filters.into_iter().chain([("instance-state-name".to_owned(), states)]).map(filter);
    let request = region.client.describe_instances().set_filters(Some(filters.collect()));
    let mut pages = request.into_paginator().page_size(1000).send();
    let mut instances = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| region.failed("DescribeInstances", error))?;
        for reservation in page.reservations.unwrap_or_default() {
            instances.extend(reservation.instances.unwrap_or_default());
        }
    }
    Ok(instances)
}

/// A filter for a listing.
pub(super) fn filter((name, values): (String, Vec<String>)) -> aws_sdk_ec2::types::Filter {
    aws_sdk_ec2::types::Filter::builder().name(name).set_values(Some(values)).build()
}

/// A filter by a tag's value.
pub(super) fn tagged(key: &str, value: &str) -> (String, Vec<String>) {
    (format!("tag:{key}"), vec![value.to_owned()])
}
