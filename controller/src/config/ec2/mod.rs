//! `[ec2]` and `[roles.NAME.ec2]`: how instances are launched. What a value may be is in `check`.

mod check;
mod load;
mod volume;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub(super) use self::load::{check, read};
pub use self::volume::{Volume, VolumeType};

/// What is launched unless a role says otherwise.
const INSTANCE_TYPE: &str = "t3.small";

/// `[ec2]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ec2Config {
    /// Region; else what the AWS SDK finds: AWS_REGION, the profile, the instance that this runs on.
    pub region: Option<String>,
    /// Profile of ~/.aws/config.
    pub profile: Option<String>,
    /// Which address of a host is dialled.
    #[serde(default)]
    pub address: Address,
    /// Tags of all that is made.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// How images are made.
    #[serde(default)]
    pub bake: BakeConfig,
}

/// Which address of a host is dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// That inside the VPC.
    #[default]
    Private,
    /// That on the internet.
    Public,
}

/// `[ec2.bake]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BakeConfig {
    /// The image to begin with.
    pub base: Option<ImageChoice>,
    /// Where the builder gets the agent's package from: a URL.
    pub package: Option<String>,
    /// Digest of the package: 64 hex digits.
    pub sha256: Option<String>,
    /// Type of the builder.
    pub instance_type: Option<String>,
    /// Subnet of the builder.
    pub subnet: Option<String>,
    /// Security groups of the builder.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Does the builder need an address of its own to get out?
    pub public_address: Option<bool>,
    /// Distribution packages to bake in.
    #[serde(default)]
    pub packages: Vec<String>,
}

impl BakeConfig {
    /// The type of the builder.
    pub fn instance_type(&self) -> &str {
        self.instance_type.as_deref().unwrap_or(INSTANCE_TYPE)
    }
}

/// `[roles.NAME.ec2]`; what it leaves out, it has from the role that is extended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ec2Role {
    /// What to boot from; else the newest image that was baked for this fleet.
    pub image: Option<ImageChoice>,
    /// Types, in the order in which they are tried while there is no capacity.
    pub instance_type: Option<OneOrMore>,
    /// Subnets to spread over; else the default VPC's.
    pub subnets: Option<Vec<String>>,
    /// Ids of security groups; else the VPC's default group.
    pub security_groups: Option<Vec<String>>,
    /// Name or ARN of the IAM instance profile.
    pub instance_profile: Option<String>,
    /// Name of the ssh key pair; none unless it says so.
    pub key_pair: Option<String>,
    /// Volumes, the root volume among them if its device is named.
    pub volumes: Option<Vec<Volume>>,
    /// Tags beside those of `[ec2]`.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Which market.
    pub spot: Option<Spot>,
    /// Whether a host gets an address on the internet; the subnet's own rule unless it says so.
    pub public_address: Option<bool>,
    /// More user-data, for cloud-init.
    pub user_data: Option<UserData>,
    /// Where in the region.
    #[serde(default)]
    pub placement: Placement,
    /// Whose hardware.
    pub tenancy: Option<Tenancy>,
}

/// An image, by one of three ways.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(
    untagged,
    expecting = "an image is \"ami-…\", { name = \"pattern\", owner = \"self\" } or { parameter = \"/aws/service/…\" }"
)]
pub enum ImageChoice {
    /// `ami-…`
    Id(String),
    /// The newest of this name.
    Newest(NewestImage),
    /// What a parameter of the Systems Manager names.
    Parameter(ImageParameter),
}

/// The newest image of a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewestImage {
    /// Name, with `*` and `?`.
    pub name: String,
    /// `self`, `amazon`, or an account number.
    pub owner: String,
}

/// A public or own parameter that holds an image's id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageParameter {
    /// Its name, with slashes.
    pub parameter: String,
}

/// A list that may be written as one string.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
pub enum OneOrMore {
    /// `"t3.small"`
    One(String),
    /// `["t3.small", "t3a.small"]`
    More(Vec<String>),
}

impl OneOrMore {
    /// As a list.
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(list) => list,
        }
    }
}

/// Which market an instance is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "spot is true, false or \"fallback\"")]
pub enum Spot {
    /// Spot or nothing; or never spot.
    Only(bool),
    /// Spot, and on demand while there is none.
    Else(SpotElse),
}

/// What to do while there is no spot capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpotElse {
    /// Launch on demand.
    Fallback,
}

/// `placement`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// Such as `eu-central-1a`; a subnet decides it as well.
    pub availability_zone: Option<String>,
    /// Placement group, by name.
    pub group: Option<String>,
}

/// Whose hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tenancy {
    /// Shared with others.
    Default,
    /// Of this account alone.
    Dedicated,
    /// A Dedicated Host.
    Host,
}

/// A file that goes into the user-data.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "PathBuf")]
pub struct UserData {
    /// Relative to the configuration file.
    pub path: PathBuf,
    /// What is in it; empty until [`UserData::read`].
    pub content: Vec<u8>,
}

impl From<PathBuf> for UserData {
    fn from(path: PathBuf) -> Self {
        Self { path, content: Vec::new() }
    }
}

impl UserData {
    /// Reads the file.
    pub(super) fn read(&mut self, directory: &Path) -> std::io::Result<()> {
        self.content = std::fs::read(directory.join(&self.path))?;
        Ok(())
    }
}

impl Ec2Role {
    /// Types in the order in which they are tried.
    pub fn instance_types(&self) -> Vec<&str> {
        match &self.instance_type {
            Some(types) => types.as_slice().iter().map(String::as_str).collect(),
            None => vec![INSTANCE_TYPE],
        }
    }

    /// Takes from `parent` what this one leaves out; tags and placement key by key.
    pub(super) fn inherit(&mut self, parent: &Self) {
        fill(&mut self.image, &parent.image);
        fill(&mut self.instance_type, &parent.instance_type);
        fill(&mut self.subnets, &parent.subnets);
        fill(&mut self.security_groups, &parent.security_groups);
        fill(&mut self.instance_profile, &parent.instance_profile);
        fill(&mut self.key_pair, &parent.key_pair);
        fill(&mut self.volumes, &parent.volumes);
        fill(&mut self.spot, &parent.spot);
        fill(&mut self.public_address, &parent.public_address);
        fill(&mut self.user_data, &parent.user_data);
        fill(&mut self.placement.availability_zone, &parent.placement.availability_zone);
        fill(&mut self.placement.group, &parent.placement.group);
        fill(&mut self.tenancy, &parent.tenancy);
        for (key, value) in &parent.tags {
            self.tags.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}

fn fill<T: Clone>(own: &mut Option<T>, inherited: &Option<T>) {
    if own.is_none() {
        own.clone_from(inherited);
    }
}
