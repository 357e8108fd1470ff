//! The `RunInstances` request, as a pure function of the settings.

use aws_sdk_ec2::{
    operation::run_instances::builders::RunInstancesInputBuilder,
    types::{
        BlockDeviceMapping, EbsBlockDevice, HttpTokensState, IamInstanceProfileSpecification,
        InstanceInterruptionBehavior, InstanceMarketOptionsRequest, InstanceMetadataEndpointState,
        InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification, InstanceType, MarketType,
        Placement, ResourceType, ShutdownBehavior, SpotInstanceType, SpotMarketOptions, Tag,
        TagSpecification, Tenancy, VolumeType,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{attempts::Attempt, tags, tags::Tags};
use crate::{
    config::{self, Ec2Role, Volume},
    provider::ImageId,
};

/// The part of a launch that is the same for all attempts.
#[derive(Clone, Debug)]
pub(super) struct Plan<'a> {
    /// Base of the client token, which makes retries safe.
    pub(super) tid: &'a str,
    pub(super) image: &'a ImageId,
    pub(super) settings: &'a Ec2Role,
    /// All tags of the instance.
    pub(super) tags: &'a Tags,
    pub(super) user_data: &'a [u8],
}

/// The request for one attempt. The instance and all its parts are tagged, so that they can be found later.
pub(super) fn run(plan: &Plan<'_>, attempt: &Attempt) -> RunInstancesInputBuilder {
    let settings = plan.settings;
    let profile = settings.instance_profile.as_ref().map(|profile| instance_profile(profile));
    let volumes = settings.volumes.as_ref().map(|volumes| volumes.iter().map(block_device).collect());
    let request = RunInstancesInputBuilder::default()
        .min_count(1)
        .max_count(1)
        .client_token(client_token(plan.tid, attempt.number))
        .image_id(&plan.image.0)
        .instance_type(InstanceType::from(attempt.instance_type.as_str()))
        .user_data(STANDARD.encode(plan.user_data))
        .instance_initiated_shutdown_behavior(ShutdownBehavior::Stop)
        .metadata_options(metadata())
        .set_tag_specifications(Some(tag_specifications(plan.tags, attempt.spot)))
        .set_key_name(settings.key_pair.clone())
        .set_iam_instance_profile(profile)
        .set_block_device_mappings(volumes)
        .set_placement(placement(settings))
        .set_instance_market_options(attempt.spot.then(spot));
    network(request, settings, attempt)
}

/// At most 64 characters. Each attempt needs its own token: EC2 refuses the same token with other parameters.
fn client_token(tid: &str, attempt: usize) -> String {
    if attempt == 0 { tid.to_owned() } else { format!("{tid}-{attempt}") }
}

/// IMDSv2 only and a hop limit of 1, so that containers and forwarded requests cannot read the user-data.
fn metadata() -> InstanceMetadataOptionsRequest {
    InstanceMetadataOptionsRequest::builder()
        .http_endpoint(InstanceMetadataEndpointState::Enabled)
        .http_tokens(HttpTokensState::Required)
        .http_put_response_hop_limit(1)
        .build()
}

/// A persistent request with `stop`: other spot instances cannot be stopped and started. `destroy` cancels the request.
fn spot() -> InstanceMarketOptionsRequest {
    let options = SpotMarketOptions::builder()
        .spot_instance_type(SpotInstanceType::Persistent)
        .instance_interruption_behavior(InstanceInterruptionBehavior::Stop)
        .build();
    InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot).spot_options(options).build()
}

/// A public address can only be requested on an interface, which must then have the subnet and groups too.
fn network(
    request: RunInstancesInputBuilder,
    settings: &Ec2Role,
    attempt: &Attempt,
) -> RunInstancesInputBuilder {
    let groups = settings.security_groups.clone();
    let Some(public) = settings.public_address else {
        return request.set_subnet_id(attempt.subnet.clone()).set_security_group_ids(groups);
    };
    let interface = InstanceNetworkInterfaceSpecification::builder()
        .device_index(0)
        .associate_public_ip_address(public)
        .delete_on_termination(true)
        .set_subnet_id(attempt.subnet.clone())
        .set_groups(groups);
    request.network_interfaces(interface.build())
}

fn placement(settings: &Ec2Role) -> Option<Placement> {
    let (zone, group) = (&settings.placement.availability_zone, &settings.placement.group);
    if zone.is_none() && group.is_none() && settings.tenancy.is_none() {
        return None;
    }
    let tenancy = settings.tenancy.map(|tenancy| match tenancy {
        config::Tenancy::Default => Tenancy::Default,
        config::Tenancy::Dedicated => Tenancy::Dedicated,
        config::Tenancy::Host => Tenancy::Host,
    });
    let placement = Placement::builder().set_availability_zone(zone.clone()).set_group_name(group.clone());
    Some(placement.set_tenancy(tenancy).build())
}

fn instance_profile(profile: &str) -> IamInstanceProfileSpecification {
    let specification = IamInstanceProfileSpecification::builder();
    if profile.starts_with("arn:") { specification.arn(profile) } else { specification.name(profile) }.build()
}

fn block_device(volume: &Volume) -> BlockDeviceMapping {
    let ebs = EbsBlockDevice::builder()
        .volume_type(VolumeType::from(volume.kind.name()))
        .set_volume_size(volume.size)
        .set_iops(volume.iops)
        .set_throughput(volume.throughput)
        .set_encrypted(volume.encrypted)
        .delete_on_termination(true);
    BlockDeviceMapping::builder().device_name(&volume.device).ebs(ebs.build()).build()
}

/// The instance gets all tags; its volumes and spot request get only those that never change.
fn tag_specifications(all: &Tags, spot: bool) -> Vec<TagSpecification> {
    let lasting = tags::lasting(all);
    let of = |kind, tags: &Tags| {
        TagSpecification::builder().resource_type(kind).set_tags(Some(list(tags))).build()
    };
    let mut specifications = vec![of(ResourceType::Instance, all), of(ResourceType::Volume, &lasting)];
    if spot {
        specifications.push(of(ResourceType::SpotInstancesRequest, &lasting));
    }
    specifications
}

/// Tags in the SDK's type.
pub(super) fn list(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

#[cfg(test)]
mod tests;
