//! Settings of an instance that cannot be changed in place.

use aws_lc_rs::digest::{SHA256, digest};

use super::tags;
use crate::{
    config::{Ec2Role, Spot, Volume},
    provider::{Fingerprint, ImageId},
};

/// The configured settings, each as one word. Settings left to EC2 have no entry.
pub(super) fn of(settings: &Ec2Role, image: &ImageId) -> Fingerprint {
    let list = |list: &Option<Vec<String>>| list.as_ref().map(|list| list.join(","));
    let entries = [
        ("image", Some(image.0.clone())),
        ("type", Some(settings.instance_types().join(","))),
        ("subnets", list(&settings.subnets)),
        ("groups", list(&settings.security_groups)),
        ("profile", settings.instance_profile.clone()),
        ("key", settings.key_pair.clone()),
        ("volumes", settings.volumes.as_deref().map(volumes)),
        ("spot", spot(settings.spot).map(str::to_owned)),
        ("tenancy", settings.tenancy.map(|tenancy| format!("{tenancy:?}").to_lowercase())),
        ("zone", settings.placement.availability_zone.clone()),
        ("group", settings.placement.group.clone()),
        ("public", settings.public_address.map(|public| public.to_string())),
        ("user_data", settings.user_data.as_ref().map(|file| digest_of(&file.content))),
    ];
    tags::compact(entries.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
}

fn spot(spot: Option<Spot>) -> Option<&'static str> {
    match spot {
        None | Some(Spot::Only(false)) => None,
        Some(Spot::Only(true)) => Some("only"),
        Some(Spot::Else(_)) => Some("fallback"),
    }
}

fn volumes(volumes: &[Volume]) -> String {
    let number = |value: Option<i32>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let one = |volume: &Volume| {
        let Volume { device, size, kind, iops, throughput, encrypted } = volume;
        let encrypted = encrypted.map_or("-", |encrypted| if encrypted { "yes" } else { "no" });
        let numbers = [*size, *iops, *throughput].map(number).join(":");
        format!("{device}:{}:{numbers}:{encrypted}", kind.name())
    };
    volumes.iter().map(one).collect::<Vec<_>>().join(",")
}

fn digest_of(content: &[u8]) -> String {
    hex::encode(&digest(&SHA256, content).as_ref()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Ec2Role {
        toml::from_str(text).expect("settings")
    }

    #[test]
    fn what_is_not_set_is_not_compared() {
        let told = of(&settings("spot = false"), &ImageId("ami-1".into()));
        assert_eq!(
            told,
            [("image", "ami-1"), ("type", "t3.small")].map(|(k, v)| (k.into(), v.into())).into()
        );
    }

    #[test]
    fn every_setting_tells_hosts_apart() {
        let image = ImageId("ami-1".into());
        let plain = of(&Ec2Role::default(), &image);
        for setting in [
            "instance_type = [\"t3.small\", \"t3a.small\"]",
            "subnets = [\"subnet-0123456789abcdef0\"]",
            "security_groups = [\"sg-0123456789abcdef0\"]",
            "instance_profile = \"p\"",
            "key_pair = \"k\"",
            "volumes = [{ device = \"xvdb\" }]",
            "spot = true",
            "spot = \"fallback\"",
            "tenancy = \"dedicated\"",
            "placement = { availability_zone = \"eu-central-1a\" }",
            "placement = { group = \"g\" }",
            "public_address = false",
            "user_data = \"x\"",
        ] {
            assert_ne!(of(&settings(setting), &image), plain, "{setting}");
        }
        assert_eq!(of(&settings("tags = { a = \"b\" }"), &image), plain);
        let volume =
            |text: &str| of(&settings(&format!("volumes = [{{ device = \"xvdb\", {text} }}]")), &image);
        assert_ne!(volume("size = \"1G\""), volume("size = \"2G\""));
        assert_ne!(volume("encrypted = true"), volume("encrypted = false"));
    }
}
