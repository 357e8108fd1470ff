//! `magpie.toml`: finding it in the current or a parent directory, strict parsing, and defaults.

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
pub use self::size::{parse_memory, parse_size};
use crate::{
    bundle::BundleConfig,
    error::{Error, Result},
};
use ownership::Trust;

/// Name of the configuration file.
pub const FILE: &str = "magpie.toml";

/// The parsed configuration file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The fleet: name, CA directory, default provider.
    pub fleet: FleetConfig,
    /// The Puppet code.
    pub bundle: BundleConfig,
    /// How to connect to hosts.
    #[serde(default)]
    pub connect: ConnectConfig,
    /// Hosts on this machine.
    #[serde(default)]
    pub local: LocalConfig,
    /// EC2 instances.
    #[serde(default)]
    pub ec2: Ec2Config,
    /// Roles of hosts, by name.
    #[serde(default)]
    pub roles: BTreeMap<String, RoleConfig>,
}

/// `[fleet]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetConfig {
    /// Display name.
    pub name: String,
    /// CA directory, relative to the file.
    #[serde(default = "default_ca")]
    pub ca: PathBuf,
    /// Provider of roles that do not set one.
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
    /// Command whose stdin and stdout are the connection; `%h` and `%p` stand for host and port.
    pub proxy: Option<String>,
}

/// `[local]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalConfig {
    /// Directory for images and hosts.
    pub state: Option<PathBuf>,
    /// Agent binary to install in images.
    pub agent: Option<PathBuf>,
    /// Distribution packages to install in images.
    #[serde(default)]
    pub packages: Vec<String>,
}

impl Config {
    /// Reads the configuration: `explicit` if given, else the nearest `magpie.toml` in `start` or a parent directory.
    /// Returns it with the directory that its relative paths refer to.
    ///
    /// # Errors
    /// The file is missing or invalid, or other users can write it or the CA directory.
    pub fn load(explicit: Option<&Path>, start: &Path) -> Result<(Self, PathBuf)> {
        let trust = Trust::of_caller();
        let (path, trust) = match explicit {
            Some(path) => (path.to_owned(), trust.with_owner_of(path)),
            None => {
                let path = find(start).ok_or_else(|| {
                    Error::invalid(format!("no {FILE} in {} or a parent directory", start.display()))
                        .hint("`ctl init` creates one, with a CA directory")
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

    /// The settings of a role.
    ///
    /// # Errors
    /// There is no such role; the error lists the known ones.
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
                .hint(format!("known roles: {known}"))
                .hint(way)
        })
    }
}

/// Parses the text of a configuration; errors name the line.
pub fn parse(text: &str) -> Result<Config> {
    parse_file(text, FILE)
}

fn parse_file(text: &str, file: &str) -> Result<Config> {
    let config: Config =
        toml::from_str(text).map_err(|error| Error::invalid(error.to_string().trim_end()).context(file))?;
    if let Some(role) = config.roles.keys().find(|role| !is_role(role)) {
        return Err(
            Error::invalid(format!("{file}: [roles.{role}]: {role:?} is not a valid role")).hint(ROLE_NAMES)
        );
    }
    let roles = role::resolve(&config.roles).map_err(|error| error.context(file))?;
    let config = Config { roles, ..config };
    ec2::check(&config, text, file)?;
    Ok(config)
}

/// The rules of [`is_role`], for hints.
const ROLE_NAMES: &str = "a role is also a Puppet class: use up to 50 lower-case letters, digits and _, with a letter first and no _ last";

/// Whether the name is valid as the last part of a Puppet class name, and short enough for a host name.
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
# The CA directory. Anyone who can read it controls every host: keep it out of git.
ca = ".magpie"
# Provider of new hosts, unless their role sets one: local or ec2. (For existing machines, use `ctl adopt`.)
# provider = "local"

[bundle]
# The Puppet code: a directory with manifests/site.pp. ctl pushes the working tree without the files that git ignores, or
# a git revision with --rev.
path = "{puppet}"
# More files to leave out, in .gitignore syntax:
# exclude = ["spec/", "*.md"]
# Replace links that point outside the repository with a copy of their target; never with --rev:
# outside_links = true
# Command to run in a copy of the tree before it is packed, for example to fetch modules:
# prepare = "r10k puppetfile install"
# Puppet's $environment:
# environment = "production"

# Disposable hosts on this machine, the default provider.
[local]
# state = "/var/lib/magpie-local"
# Distribution packages to install in the image, so that each apply is faster:
# packages = ["postgresql"]

# Command whose stdin and stdout are the connection to an EC2 host or an adopted machine:
# [connect]
# proxy = "ssh -W %h:%p bastion"

# EC2 instances, for roles with provider = "ec2". Launch settings go in [roles.NAME.ec2].
# [ec2]
# region = "eu-central-1"
# profile = "work"
# address = "private"
# Base image and agent package for `ctl bake --provider ec2`:
# [ec2.bake]
# base = {{ name = "debian-12-amd64-*", owner = "136693071363" }}
# package = "https://…/magpie-agent.deb"
# sha256 = "…"

# One section per role. Puppet sees the name of the role as the fact `role`.
[roles.db]
memory = "1G"
# How long after its last use a host is kept, before `ctl gc` cleans it up; "none" means forever:
# lease = "7d"
# A host shuts itself down this long after its lease ends, unless it is used again (default: never):
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
        let error =
            parse("[fleet]\nname = \"a\"\n[roles.db]\nmemory = \"5\"\n").expect_err("too little").to_string();
        assert!(error.contains("line 4") && error.contains("a host needs 32 MiB to boot"), "{error}");
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
        assert_eq!(error.hints(), ["known roles: db, web", "add a section [roles.bd] to use it"]);
        let error = config.role("web-edge").expect_err("no name of a role");
        assert_eq!(error.hints()[1], ROLE_NAMES, "no hint to add a section that would be invalid");
    }

    #[test]
    fn the_nearest_file_in_a_parent_directory_is_used() {
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
