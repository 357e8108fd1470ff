//! `magpie.toml`: found here or in a parent directory, parsed strictly, with defaults in one place.

mod ec2;
mod kind;
mod ownership;
mod place;
mod role;
mod size;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub use self::ec2::{
    Address, BakeConfig, Ec2Config, Ec2Role, ImageChoice, ImageParameter, NewestImage, OneOrMore, Placement,
    Spot, SpotElse, Tenancy, UserData, Volume, VolumeType,
};
pub use self::kind::Kind;
pub use self::role::{Lease, RoleConfig, parse_duration};
pub use self::size::parse_size;
use crate::{
    bundle::BundleConfig,
    error::{Error, Result},
};
use ownership::Trust;

/// Name of the configuration file.
pub const FILE: &str = "magpie.toml";

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who the hosts belong to.
    pub fleet: FleetConfig,
    /// Where the Puppet code is.
    pub bundle: BundleConfig,
    /// How hosts are reached.
    #[serde(default)]
    pub connect: ConnectConfig,
    /// Hosts on this machine.
    #[serde(default)]
    pub local: LocalConfig,
    /// Instances of EC2.
    #[serde(default)]
    pub ec2: Ec2Config,
    /// Classes of machine, by name.
    #[serde(default)]
    pub roles: BTreeMap<String, RoleConfig>,
}

/// `[fleet]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetConfig {
    /// Name, for people.
    pub name: String,
    /// CA directory, relative to the file.
    #[serde(default = "default_ca")]
    pub ca: PathBuf,
    /// Where hosts of roles come from that do not say so.
    #[serde(default)]
    pub provider: Kind,
}

fn default_ca() -> PathBuf {
    PathBuf::from(".magpie")
}

/// `[connect]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectConfig {
    /// Command whose standard input and output are the connection; `%h` and `%p` are host and port.
    pub proxy: Option<String>,
}

/// `[local]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalConfig {
    /// Where images and hosts are kept.
    pub state: Option<PathBuf>,
    /// The agent binary that is baked into images.
    pub agent: Option<PathBuf>,
    /// Distribution packages to bake in.
    #[serde(default)]
    pub packages: Vec<String>,
}

impl Config {
    /// Reads the configuration: `explicit` if given, else the nearest `magpie.toml` at or above `start`.
    /// Returns it with the directory that its relative paths refer to.
    ///
    /// # Errors
    /// There is none, it is not valid, or others may have written it or made its CA directory.
    pub fn load(explicit: Option<&Path>, start: &Path) -> Result<(Self, PathBuf)> {
        let trust = Trust::of_caller();
        let (path, trust) = match explicit {
            Some(path) => (path.to_owned(), trust.with_owner_of(path)),
            None => {
                let path = find(start).ok_or_else(|| {
                    Error::invalid(format!("no {FILE} in {} or above", start.display()))
                        .hint("`ctl init` makes one, and a CA directory beside it")
                })?;
                trust.check_file(&path)?;
                (path, trust)
            }
        };
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        let file = path.display().to_string();
        let mut config = parse_file(&text, &file)?;
        let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let directory = directory.canonicalize().map_err(|error| unreadable(&path, &error))?;
        ec2::read(&mut config, &text, &file, &directory)?;
        trust.check_directory(&directory.join(&config.fleet.ca))?;
        Ok((config, directory))
    }

    /// The settings of a role, or an error that names those there are.
    pub fn role(&self, name: &str) -> Result<&RoleConfig> {
        self.roles.get(name).ok_or_else(|| {
            let known: Vec<_> = self.roles.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let way = if is_role(name) {
                format!("add a section [roles.{name}] to use it")
            } else {
                ROLE_NAMES.to_owned()
            };
            Error::invalid(format!("role {name:?} is not in {FILE}"))
                .hint(format!("roles there: {known}"))
                .hint(way)
        })
    }
}

/// Parses the text of a configuration; errors carry the line.
pub fn parse(text: &str) -> Result<Config> {
    parse_file(text, FILE)
}

fn parse_file(text: &str, file: &str) -> Result<Config> {
    let config: Config =
        toml::from_str(text).map_err(|error| Error::invalid(error.to_string().trim_end()).context(file))?;
    if let Some(role) = config.roles.keys().find(|role| !is_role(role)) {
        return Err(
            Error::invalid(format!("{file}: [roles.{role}]: {role:?} cannot be a role")).hint(ROLE_NAMES)
        );
    }
    let roles = role::resolve(&config.roles).map_err(|error| error.context(file))?;
    let config = Config { roles, ..config };
    ec2::check(&config, text, file)?;
    Ok(config)
}

/// What [`is_role`] wants.
const ROLE_NAMES: &str =
    "a role is also a Puppet class: lower-case letters, digits and _, a letter first, at most 50";

/// Is this the last part of a Puppet class name, and short enough for a host name?
fn is_role(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= 50
        && name.bytes().all(known)
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('_')
}

fn find(start: &Path) -> Option<PathBuf> {
    start.ancestors().map(|directory| directory.join(FILE)).find(|path| path.is_file())
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::invalid(format!("cannot read {}: {error}", path.display()))
}

/// The file that `ctl init` writes.
pub fn template(fleet: &str, puppet: &str) -> String {
    format!(
        r#"# Magpie's configuration. Paths are relative to this file.

[fleet]
name = "{fleet}"
# The CA directory: whoever can read it owns every host. Not for git.
ca = ".magpie"
# Where hosts come from unless a role says otherwise: local, ec2. (Machines that are there: `ctl adopt`.)
# provider = "local"

[bundle]
# The Puppet code: a directory with manifests/site.pp. Pushed as it is, without what git ignores, or from git with --rev.
path = "{puppet}"
# Left out, as in .gitignore:
# exclude = ["spec/", "*.md"]
# Links that leave the repository are replaced by what they lead to here; never with --rev:
# outside_links = true
# Run in a copy of the tree before it is packed, for instance to fetch modules:
# prepare = "r10k puppetfile install"
# What Puppet sees as $environment:
# environment = "production"

# Throw-away hosts on this machine, the default provider.
[local]
# state = "/var/lib/magpie-local"
# Distribution packages to bake into the image, to save time in each apply:
# packages = ["postgresql"]

# A command whose standard input and output are the connection to a host of EC2 or over ssh:
# [connect]
# proxy = "ssh -W %h:%p bastion"

# Instances of EC2, for roles with provider = "ec2"; how is in [roles.NAME.ec2].
# [ec2]
# region = "eu-central-1"
# profile = "work"
# address = "private"
# What `ctl bake --provider ec2` makes images of:
# [ec2.bake]
# base = {{ name = "debian-12-amd64-*", owner = "136693071363" }}
# package = "https://…/magpie-agent.deb"
# sha256 = "…"

# A section a role. Puppet gets the name as the fact `role`.
[roles.db]
memory = "1G"
# How long a host may live after its last use, for `ctl gc`; "none" is for ever:
# lease = "7d"
# So long after that a host shuts itself down, unless it is used; never if it is not set:
# stop_after_lease = "1h"

[roles.web]
memory = "1G"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid() {
        let config = parse(&template("shop", "puppet")).expect("valid");
        assert_eq!(config.fleet.name, "shop");
        assert_eq!(config.role("db").expect("there").memory, Some(1 << 30));
    }

    #[test]
    fn errors_name_key_and_line() {
        let error = parse("[fleet]\nname = \"a\"\nnmae = \"b\"\n").expect_err("unknown key").to_string();
        assert!(error.contains("line 3") && error.contains("nmae"), "{error}");
        let error =
            parse("[fleet]\nname = \"a\"\n[roles.db]\nmemory = \"lots\"\n").expect_err("size").to_string();
        assert!(error.contains("line 4") && error.contains("613M"), "{error}");
    }

    #[test]
    fn roles_are_puppet_classes() {
        let with = |role: &str| template("shop", "puppet") + &format!("[roles.{role}]\n");
        assert!(parse(&with("web_edge")).is_ok());
        for role in ["web-edge", "Web", "_x", "x_", "1a"] {
            let error = parse(&with(role)).expect_err(role).to_string();
            assert!(error.contains(role), "{error}");
        }
    }

    #[test]
    fn an_unknown_role_names_the_known_ones() {
        let config = parse(&template("shop", "puppet")).expect("valid");
        let error = config.role("bd").expect_err("unknown");
        assert_eq!(error.hints(), ["roles there: db, web", "add a section [roles.bd] to use it"]);
        let error = config.role("web-edge").expect_err("no name of a role");
        assert_eq!(error.hints()[1], ROLE_NAMES, "nobody is told to write what is then refused");
    }

    #[test]
    fn the_nearest_file_upwards_counts() {
        let root = tempfile::tempdir().expect("a directory");
        let below = root.path().join("a/b");
        fs::create_dir_all(&below).expect("made");
        assert!(Config::load(None, &below).is_err());
        fs::write(root.path().join(FILE), template("shop", "puppet")).expect("written");
        let (config, directory) = Config::load(None, &below).expect("found");
        assert_eq!(
            (config.fleet.name.as_str(), directory),
            ("shop", root.path().canonicalize().expect("real"))
        );
    }
}
