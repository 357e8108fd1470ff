//! The providers that there are.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Throw-away hosts on this machine
    #[default]
    Local,
    /// Instances of EC2
    Ec2,
    /// Machines that were there before, adopted over ssh
    Ssh,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::Ec2 => "ec2",
            Self::Ssh => "ssh",
        })
    }
}
