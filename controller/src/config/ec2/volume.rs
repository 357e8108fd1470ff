//! EBS volumes of a role, and the limits of each volume type (EBS user guide, "Amazon EBS volume types").

use serde::{Deserialize, Deserializer, de};

const GIB: u64 = 1 << 30;

/// An entry of `volumes`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Device name such as `/dev/sdf`; the image's root device changes the root volume.
    pub device: String,
    /// Size in GiB; default: the size of the image's snapshot.
    #[serde(default, deserialize_with = "gibibytes")]
    pub size: Option<i32>,
    /// Volume type.
    #[serde(rename = "type", default)]
    pub kind: VolumeType,
    /// Provisioned I/O operations per second.
    pub iops: Option<i32>,
    /// Provisioned throughput in MiB/s.
    pub throughput: Option<i32>,
    /// Whether to encrypt with the account's default key; default: the account's setting.
    pub encrypted: Option<bool>,
}

/// EBS volume types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeType {
    /// SSD; performance is set apart from size.
    #[default]
    Gp3,
    /// SSD; performance depends on size.
    Gp2,
    /// SSD with provisioned IOPS.
    Io1,
    /// SSD with provisioned IOPS, more durable.
    Io2,
    /// Throughput-optimized hard disk.
    St1,
    /// Cold hard disk.
    Sc1,
}

impl VolumeType {
    /// The name in the EC2 API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gp3 => "gp3",
            Self::Gp2 => "gp2",
            Self::Io1 => "io1",
            Self::Io2 => "io2",
            Self::St1 => "st1",
            Self::Sc1 => "sc1",
        }
    }

    /// Minimum size in GiB.
    fn least_size(self) -> i32 {
        match self {
            Self::Gp3 | Self::Gp2 => 1,
            Self::Io1 | Self::Io2 => 4,
            Self::St1 | Self::Sc1 => 125,
        }
    }

    /// Minimum of `iops`; `None` if the type has no such setting.
    fn least_iops(self) -> Option<i32> {
        match self {
            Self::Gp3 => Some(3_000),
            Self::Io1 | Self::Io2 => Some(100),
            Self::Gp2 | Self::St1 | Self::Sc1 => None,
        }
    }
}

impl Volume {
    /// The invalid setting, if any: its key, and why. Upper limits are left to EC2, because EC2 raises them.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let kind = self.kind.name();
        if !self.device.starts_with("/dev/") && !self.device.starts_with("xvd") {
            return Some(("device", format!("{:?} is not a device such as /dev/sdf", self.device)));
        }
        if self.size.is_some_and(|size| size < self.kind.least_size()) {
            return Some(("size", format!("type {kind} needs at least {}G", self.kind.least_size())));
        }
        match (self.iops, self.kind.least_iops()) {
            (Some(_), None) => return Some(("iops", format!("type {kind} has no iops setting"))),
            (Some(iops), Some(least)) if iops < least => {
                return Some(("iops", format!("type {kind} needs at least {least}")));
            }
            (None, Some(_)) if matches!(self.kind, VolumeType::Io1 | VolumeType::Io2) => {
                return Some(("iops", format!("required for type {kind}")));
            }
            _ => {}
        }
        match self.throughput {
            Some(_) if self.kind != VolumeType::Gp3 => {
                Some(("throughput", format!("type {kind} has no throughput setting; only gp3 has")))
            }
            Some(throughput) if throughput < 125 => Some(("throughput", "must be at least 125 MiB/s".into())),
            _ => None,
        }
    }
}

fn gibibytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    let bytes = crate::config::parse_size(&String::deserialize(deserializer)?).map_err(de::Error::custom)?;
    match i32::try_from(bytes / GIB) {
        Ok(size) if bytes % GIB == 0 => Ok(Some(size)),
        _ => Err(de::Error::custom("a volume size must be a whole number of GiB, such as 20G")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Option<(&'static str, String)> {
        toml::from_str::<Volume>(text).expect("a volume").problem()
    }

    #[test]
    fn each_type_has_its_own_limits() {
        for good in [
            "device = \"/dev/sdf\"",
            "device = \"xvdb\"\nsize = \"20G\"\niops = 4000\nthroughput = 250",
            "device = \"/dev/sdf\"\ntype = \"io2\"\nsize = \"4G\"\niops = 100",
            "device = \"/dev/sdf\"\ntype = \"st1\"\nsize = \"125G\"",
        ] {
            assert_eq!(problem(good), None, "{good}");
        }
        for (wrong, key) in [
            ("device = \"sdf\"", "device"),
            ("device = \"/dev/sdf\"\ntype = \"gp2\"\niops = 100", "iops"),
            ("device = \"/dev/sdf\"\niops = 100", "iops"),
            ("device = \"/dev/sdf\"\ntype = \"io1\"", "iops"),
            ("device = \"/dev/sdf\"\ntype = \"io1\"\nsize = \"1G\"\niops = 100", "size"),
            ("device = \"/dev/sdf\"\ntype = \"gp2\"\nthroughput = 200", "throughput"),
            ("device = \"/dev/sdf\"\nthroughput = 100", "throughput"),
        ] {
            assert_eq!(problem(wrong).map(|(key, _)| key), Some(key), "{wrong}");
        }
        for wrong in ["size = \"20M\"", "size = 20", "type = \"gp4\"", "sise = \"20G\""] {
            let text = format!("device = \"/dev/sdf\"\n{wrong}");
            assert!(toml::from_str::<Volume>(&text).is_err(), "{wrong}");
        }
    }
}
