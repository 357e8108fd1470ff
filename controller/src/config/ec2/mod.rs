//! `[ec2]` and `[roles.NAME.ec2]`: how instances are launched. `check` validates the values.

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

/// The default instance type.
const INSTANCE_TYPE: &str = "t3.small";

/// `[ec2]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ec2Config {
    /// Region; by default the AWS SDK's: AWS_REGION, the profile, or the instance that `ctl` runs on.
    pub region: Option<String>,
    /// Profile in ~/.aws/config.
    pub profile: Option<String>,
    /// Which address of a host to connect to.
    #[serde(default)]
    pub address: Address,
    /// Tags for every resource that `ctl` creates.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// How images are built.
    #[serde(default)]
    pub bake: BakeConfig,
}

/// Which address of a host to connect to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// The address inside the VPC.
    #[default]
    Private,
    /// The public address.
    Public,
}

/// `[ec2.bake]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BakeConfig {
    /// The base image.
    pub base: Option<ImageChoice>,
    /// URL that the builder downloads the agent's package from.
    pub package: Option<String>,
    /// SHA-256 digest of the package: 64 hex digits.
    pub sha256: Option<String>,
    /// Instance type of the builder.
    pub instance_type: Option<String>,
    /// Subnet of the builder.
    pub subnet: Option<String>,
    /// Security groups of the builder.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Whether the builder gets a public address, if it needs one for internet access.
    pub public_address: Option<bool>,
    /// Distribution packages to bake in.
    #[serde(default)]
    pub packages: Vec<String>,
}

impl BakeConfig {
    /// Instance type of the builder, or the default.
    pub fn instance_type(&self) -> &str {
        self.instance_type.as_deref().unwrap_or(INSTANCE_TYPE)
    }
}

/// `[roles.NAME.ec2]`; missing settings come from the role that it extends.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ec2Role {
    /// Image to boot from; default: the newest image baked for this fleet.
    pub image: Option<ImageChoice>,
    /// Instance types, tried in this order while there is no capacity.
    pub instance_type: Option<OneOrMore>,
    /// Subnets to spread hosts over; default: the default VPC's.
    pub subnets: Option<Vec<String>>,
    /// Security group ids; default: the VPC's default group.
    pub security_groups: Option<Vec<String>>,
    /// Name or ARN of the IAM instance profile.
    pub instance_profile: Option<String>,
    /// Name of the ssh key pair; default: none.
    pub key_pair: Option<String>,
    /// Volumes; an entry with the root device changes the root volume.
    pub volumes: Option<Vec<Volume>>,
    /// Tags in addition to those of `[ec2]`.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Spot or on-demand instances.
    pub spot: Option<Spot>,
    /// Whether a host gets a public address; default: as the subnet is set up.
    pub public_address: Option<bool>,
    /// Additional user-data, for cloud-init.
    pub user_data: Option<UserData>,
    /// Availability zone and placement group.
    #[serde(default)]
    pub placement: Placement,
    /// Shared or dedicated hardware.
    pub tenancy: Option<Tenancy>,
}

/// An image, chosen in one of three ways.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(
    untagged,
    expecting = "an image is \"ami-…\", { name = \"pattern\", owner = \"self\" } or { parameter = \"/aws/service/…\" }"
)]
pub enum ImageChoice {
    /// `ami-…`
    Id(String),
    /// The newest image with this name.
    Newest(NewestImage),
    /// The image that a Systems Manager parameter resolves to.
    Parameter(ImageParameter),
}

/// The newest image whose name matches a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewestImage {
    /// Name pattern, with `*` and `?`.
    pub name: String,
    /// `self`, `amazon`, or an account number.
    pub owner: String,
}

/// A public or private parameter that holds an image id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageParameter {
    /// Full name of the parameter, starting with a slash.
    pub parameter: String,
}

/// A list; a single entry may be written as a plain string.
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

/// Whether instances are spot instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "spot is true, false or \"fallback\"")]
pub enum Spot {
    /// `true`: only spot; `false`: never spot.
    Only(bool),
    /// Spot, or on demand while there is no spot capacity.
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
    /// Availability zone such as `eu-central-1a`; cannot be combined with `subnets`.
    pub availability_zone: Option<String>,
    /// Placement group, by name.
    pub group: Option<String>,
}

/// The tenancy of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tenancy {
    /// Hardware shared with other accounts.
    Default,
    /// Hardware dedicated to this account.
    Dedicated,
    /// A Dedicated Host.
    Host,
}

/// A file whose content is added to the user-data.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "PathBuf")]
pub struct UserData {
    /// Relative to the configuration file.
    pub path: PathBuf,
    /// Content of the file; empty until [`UserData::read`].
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
    /// Instance types in the order to try them.
    pub fn instance_types(&self) -> Vec<&str> {
        match &self.instance_type {
            Some(types) => types.as_slice().iter().map(String::as_str).collect(),
            None => vec![INSTANCE_TYPE],
        }
    }

    /// Fills missing settings from `parent`; tags and placement key by key.
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
