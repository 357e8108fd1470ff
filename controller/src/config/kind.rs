//! The kinds of provider.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Disposable hosts on this machine
    #[default]
    Local,
    /// EC2 instances
    Ec2,
    /// Existing machines, adopted over ssh
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
