use aws_sdk_ec2::operation::run_instances::RunInstancesInput;

use super::*;
use crate::provider::ec2::attempts;

fn request(settings: &str, number: usize) -> RunInstancesInput {
    let settings: Ec2Role = toml::from_str(settings).expect("settings");
    let tags = Tags::from([
        ("Name".to_owned(), "db-1".to_owned()),
        ("magpie:fleet".to_owned(), "f".to_owned()),
        ("magpie:holder".to_owned(), "h".to_owned()),
        ("team".to_owned(), "a".to_owned()),
    ]);
    let plan = Plan {
        tid: "tid",
        image: &ImageId("ami-1".into()),
        settings: &settings,
        tags: &tags,
        user_data: b"MIME",
    };
    let attempts = attempts::order(&settings, &std::collections::BTreeMap::new());
    run(&plan, &attempts[number]).build().expect("whole")
}

#[test]
fn a_plain_host_has_what_every_host_has() {
    let request = request("", 0);
    assert_eq!((request.min_count(), request.max_count()), (Some(1), Some(1)));
    assert_eq!((request.client_token(), request.image_id()), (Some("tid"), Some("ami-1")));
    assert_eq!(request.instance_type(), Some(&InstanceType::T3Small));
    assert_eq!(request.user_data(), Some("TUlNRQ=="));
    assert_eq!(request.instance_initiated_shutdown_behavior(), Some(&ShutdownBehavior::Stop));
    let metadata = request.metadata_options().expect("set");
    assert_eq!(metadata.http_tokens(), Some(&HttpTokensState::Required));
    assert_eq!(metadata.http_put_response_hop_limit(), Some(1));
    assert!(request.instance_market_options().is_none() && request.placement().is_none());
    assert!(request.key_name().is_none() && request.iam_instance_profile().is_none());
    assert!(request.network_interfaces().is_empty() && request.block_device_mappings().is_empty());
}

#[test]
fn what_never_changes_is_on_the_volumes_too() {
    let request = request("spot = true", 0);
    let specifications: Vec<_> = request
        .tag_specifications()
        .iter()
        .map(|one| {
            let keys = one.tags().iter().filter_map(Tag::key).collect::<Vec<_>>().join(" ");
            (one.resource_type().expect("set").as_str(), keys)
        })
        .collect();
    assert_eq!(
        specifications,
        [
            ("instance", "Name magpie:fleet magpie:holder team".to_owned()),
            ("volume", "Name magpie:fleet team".to_owned()),
            ("spot-instances-request", "Name magpie:fleet team".to_owned()),
        ]
    );
}

#[test]
fn another_attempt_has_another_token() {
    let settings = "instance_type = [\"t3.small\", \"m5.large\"]";
    assert_eq!(request(settings, 0).client_token(), Some("tid"));
    let second = request(settings, 1);
    assert_eq!(
        (second.client_token(), second.instance_type()),
        (Some("tid-1"), Some(&InstanceType::M5Large))
    );
}

#[test]
fn spot_hosts_can_be_stopped_and_started() {
    let request = request("spot = \"fallback\"", 0);
    let options = request.instance_market_options().expect("set");
    assert_eq!(options.market_type(), Some(&MarketType::Spot));
    let spot = options.spot_options().expect("set");
    assert_eq!(spot.spot_instance_type(), Some(&SpotInstanceType::Persistent));
    assert_eq!(spot.instance_interruption_behavior(), Some(&InstanceInterruptionBehavior::Stop));
}

#[test]
fn a_network_is_set_in_one_of_two_places() {
    let network = "subnets = [\"subnet-1\"]\nsecurity_groups = [\"sg-1\"]\n";
    let plain = request(network, 0);
    assert_eq!(plain.subnet_id(), Some("subnet-1"));
    assert_eq!(plain.security_group_ids(), ["sg-1"]);
    let public = request(&format!("{network}public_address = true"), 0);
    assert!(public.subnet_id().is_none() && public.security_group_ids().is_empty());
    let interface = &public.network_interfaces()[0];
    assert_eq!(interface.associate_public_ip_address(), Some(true));
    assert_eq!(
        (interface.subnet_id(), interface.groups()),
        (Some("subnet-1"), ["sg-1".to_owned()].as_slice())
    );
}

#[test]
fn disks_profile_key_and_place_are_as_set() {
    let request = request(
        "instance_profile = \"db\"\nkey_pair = \"k\"\ntenancy = \"dedicated\"\nplacement = { group = \"g\" }\n\
         volumes = [{ device = \"/dev/sdf\", size = \"20G\", iops = 4000, throughput = 200, encrypted = true }]",
        0,
    );
    assert_eq!(request.iam_instance_profile().and_then(|profile| profile.name()), Some("db"));
    assert_eq!(request.key_name(), Some("k"));
    let placement = request.placement().expect("set");
    assert_eq!((placement.group_name(), placement.tenancy()), (Some("g"), Some(&Tenancy::Dedicated)));
    let device = &request.block_device_mappings()[0];
    let ebs = device.ebs().expect("set");
    assert_eq!((device.device_name(), ebs.volume_type()), (Some("/dev/sdf"), Some(&VolumeType::Gp3)));
    assert_eq!((ebs.volume_size(), ebs.iops(), ebs.throughput()), (Some(20), Some(4000), Some(200)));
    assert_eq!((ebs.encrypted(), ebs.delete_on_termination()), (Some(true), Some(true)));
    let arn = self::request("instance_profile = \"arn:aws:iam::1:instance-profile/db\"", 0);
    assert!(arn.iam_instance_profile().and_then(|profile| profile.arn()).is_some());
}

#[test]
fn tokens_fit() {
    let tid = "0".repeat(32);
    assert!(client_token(&tid, 99).len() <= 64);
}
