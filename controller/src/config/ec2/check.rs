//! Checks the EC2 settings before anything is launched with them.

use std::collections::{BTreeMap, BTreeSet};

use proto::identity::userdata;

use super::{Ec2Config, Ec2Role, ImageChoice, Spot, Tenancy};
use crate::config::place::{Problem, Step};

/// Reserved tag prefixes: Magpie's and Amazon's.
const RESERVED: [&str; 2] = ["magpie:", "aws:"];
/// A resource has at most 50 tags; this many are ours (`provider::ec2::tags`).
const MAX_TAGS: usize = 50 - 15;
/// Bytes of the user-data reserved for the enrol document.
const ENROL_DOCUMENT: usize = 1024;

type Checked = Result<(), Problem>;

/// Checks `[ec2]`; paths in problems are relative to it.
pub(in crate::config) fn fleet(settings: &Ec2Config) -> Checked {
    if let Some(region) = &settings.region {
        let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        holds(region.contains('-') && region.chars().all(part), &["region"], || {
            format!("{region:?} is not a region such as eu-central-1")
        })?;
    }
    tags(&settings.tags, &["tags"])?;
    let bake = &settings.bake;
    if let Some(base) = &bake.base {
        image(base, &["bake", "base"])?;
        holds(!matches!(base, ImageChoice::Parameter(_)), &["bake", "base"], || {
            "EC2 does not report which image a parameter resolves to, so ctl cannot tell whether that image was \
             already baked; set an id, or a name and an owner"
                .into()
        })?;
    }
    if let Some(package) = &bake.package {
        holds(package.contains("://"), &["bake", "package"], || {
            format!(
                "{package:?} is not a URL; the builder downloads the package, because user-data is limited to \
                 16 KiB: upload the package where instances can read it, such as S3 with a presigned URL"
            )
        })?;
        holds(bake.sha256.is_some(), &["bake", "package"], || {
            "set sha256, the digest of the package, too".into()
        })?;
    }
    if let Some(sum) = &bake.sha256 {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        holds(sum.len() == 64 && sum.chars().all(hex), &["bake", "sha256"], || {
            "must be 64 lower-case hex digits, as sha256sum prints them".into()
        })?;
    }
    bake.instance_type.iter().try_for_each(|name| instance_type(name, &["bake", "instance_type"]))?;
    bake.subnet.iter().try_for_each(|subnet| id(subnet, "subnet-", &["bake", "subnet"]))?;
    ids(Some(&bake.security_groups), "sg-", &["bake", "security_groups"])?;
    bake.packages.iter().enumerate().try_for_each(|(index, package)| {
        let part = |c: char| c.is_ascii_alphanumeric() || "+-._:=~".contains(c);
        let good = !package.is_empty() && !package.starts_with('-') && package.chars().all(part);
        holds(good, &["bake", "packages"], || format!("{package:?} is not a package name"))
            .map_err(|problem| problem.below(Step::Index(index)))
    })
}

/// Checks `[roles.NAME.ec2]` with its inherited settings; paths in problems are relative to it.
pub(in crate::config) fn role(settings: &Ec2Role) -> Checked {
    settings.image.iter().try_for_each(|choice| image(choice, &["image"]))?;
    let types = settings.instance_types();
    holds(!types.is_empty(), &["instance_type"], || "the list is empty".into())?;
    types.iter().try_for_each(|name| instance_type(name, &["instance_type"]))?;
    ids(settings.subnets.as_deref(), "subnet-", &["subnets"])?;
    ids(settings.security_groups.as_deref(), "sg-", &["security_groups"])?;
    for (key, name) in [("instance_profile", &settings.instance_profile), ("key_pair", &settings.key_pair)] {
        holds(name.as_ref().is_none_or(|name| !name.trim().is_empty()), &[key], || {
            "must not be empty".into()
        })?;
    }
    volumes(settings)?;
    tags(&settings.tags, &["tags"])?;
    let zone = settings.placement.availability_zone.as_ref();
    holds(zone.is_none() || settings.subnets.is_none(), &["placement", "availability_zone"], || {
        "subnets already determine the zone; set only one of the two".into()
    })?;
    let spot = !matches!(settings.spot, None | Some(Spot::Only(false)));
    holds(!(spot && settings.tenancy == Some(Tenancy::Host)), &["tenancy"], || {
        "spot instances cannot run on a Dedicated Host".into()
    })
}

/// Checks that the content of the `user_data` file fits beside an enrol document.
pub(in crate::config) fn user_data(content: &[u8]) -> Result<(), userdata::UserDataError> {
    userdata::compose(&[b' '; ENROL_DOCUMENT], Some(content)).map(drop)
}

fn volumes(settings: &Ec2Role) -> Checked {
    let mut devices = BTreeSet::new();
    for (index, volume) in settings.volumes.iter().flatten().enumerate() {
        let at = |key: &str, message| Problem {
            path: vec![Step::key("volumes"), Step::Index(index), Step::key(key)],
            message,
        };
        if let Some((key, message)) = volume.problem() {
            return Err(at(key, message));
        }
        if !devices.insert(&volume.device) {
            return Err(at("device", format!("{} is listed twice", volume.device)));
        }
    }
    Ok(())
}

fn image(choice: &ImageChoice, path: &[&str]) -> Checked {
    match choice {
        ImageChoice::Id(image) => id(image, "ami-", path),
        ImageChoice::Newest(newest) => {
            let owner = newest.owner.as_str();
            let account = owner.len() == 12 && owner.chars().all(|c| c.is_ascii_digit());
            let known = ["self", "amazon", "aws-marketplace"].contains(&owner);
            holds(account || known, &[path, &["owner"]].concat(), || {
                format!("{owner:?} is not self, amazon, aws-marketplace or an account number of 12 digits")
            })?;
            holds(!newest.name.is_empty(), &[path, &["name"]].concat(), || "must not be empty".into())
        }
        ImageChoice::Parameter(named) => {
            holds(named.parameter.starts_with('/'), &[path, &["parameter"]].concat(), || {
                format!("{:?} is not a parameter name such as /aws/service/…", named.parameter)
            })
        }
    }
}

fn instance_type(name: &str, path: &[&str]) -> Checked {
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = name.split_once('.').is_some_and(|(family, size)| {
        [family, size].iter().all(|text| !text.is_empty() && text.chars().all(part))
    });
    holds(good, path, || format!("{name:?} is not an instance type such as t3.small"))
}

fn ids(list: Option<&[String]>, prefix: &str, path: &[&str]) -> Checked {
    for (index, value) in list.unwrap_or_default().iter().enumerate() {
        id(value, prefix, path).map_err(|problem| problem.below(Step::Index(index)))?;
    }
    Ok(())
}

/// `<prefix>` and hex digits: 8 before 2018, 17 since.
fn id(value: &str, prefix: &str, path: &[&str]) -> Checked {
    let digits = value.strip_prefix(prefix).unwrap_or_default();
    let good = (8..=17).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_hexdigit());
    holds(good, path, || format!("{value:?} is not an id such as {prefix}0123456789abcdef0"))
}

fn tags(tags: &BTreeMap<String, String>, path: &[&str]) -> Checked {
    holds(tags.len() <= MAX_TAGS, path, || format!("more than {MAX_TAGS} tags"))?;
    for (key, value) in tags {
        let at = [path, &[key.as_str()]].concat();
        holds(!RESERVED.iter().any(|prefix| key.starts_with(prefix)), &at, || {
            format!("tags that begin with {} are reserved", RESERVED.join(" or "))
        })?;
        holds(key != "Name", &at, || "reserved: ctl sets this tag to the host's name".into())?;
        let fits = (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256;
        holds(fits, &at, || "a tag key must have 1 to 128 characters, its value at most 256".into())?;
    }
    Ok(())
}

fn holds(good: bool, path: &[&str], message: impl FnOnce() -> String) -> Checked {
    if good {
        return Ok(());
    }
    Err(Problem { path: path.iter().map(|key| Step::key(key)).collect(), message: message() })
}
