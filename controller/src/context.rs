//! Loads what a command works with: configuration, fleet, providers.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

#[cfg(feature = "ec2")]
use crate::provider::ec2::Ec2;
use crate::{
    config::{Config, RoleConfig},
    error::{Error, Result},
    pki::Fleet,
    provider::{ImageSpec, Kind as ProviderKind, Provider, local::Local, ssh::Ssh},
};

/// The global command-line options.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The configuration file.
    pub config: Option<&'a Path>,
    /// The user whose certificate to connect with.
    pub user: Option<&'a str>,
    /// The only provider to use.
    pub provider: Option<ProviderKind>,
    /// Whether the command issues certificates; the chosen user need not exist yet.
    pub issues: bool,
}

/// Everything a command needs to act on a fleet.
#[derive(Debug)]
pub(crate) struct Context {
    /// The configuration file.
    pub config: Config,
    /// Directory that relative paths in the configuration refer to.
    pub directory: PathBuf,
    /// The fleet's keys.
    pub fleet: Fleet,
    /// The hosts on this machine, and the images that Puppet code is checked in.
    pub local: Local,
    /// Adopted machines.
    pub ssh: Ssh,
    /// The providers in use, or only the one from `--provider`.
    providers: Vec<Arc<dyn Provider>>,
    /// The provider from `--provider`.
    asked: Option<ProviderKind>,
}

impl Context {
    /// Loads the configuration, and opens the CA directory and the providers.
    pub(crate) fn load(asked: Asked<'_>) -> Result<Self> {
        let here =
            env::current_dir().map_err(|error| Error::invalid(format!("no current directory: {error}")))?;
        let (config, directory) = Config::load(asked.config, &here)?;
        let ca = directory.join(&config.fleet.ca);
        let fleet = Fleet::open(&ca)?;
        let fleet = match asked.user {
            Some(user) => fleet.with_user(user),
            None => fleet,
        };
        if !asked.issues {
            fleet.check_chosen()?;
        }
        let ctl = own_binary()?;
        let agent = match &config.local.agent {
            Some(path) => directory.join(path),
            None => agent_binary(&ctl),
        };
        let local = open_local(&config, &directory, ctl, agent.clone())?;
        let ssh = Ssh::new(&ca, agent, config.connect.clone());
        let providers = providers(&config, asked.provider, &local, &ssh, fleet.id());
        Ok(Self { config, directory, fleet, local, ssh, providers, asked: asked.provider })
    }

    /// The provider for new hosts with these settings.
    pub(crate) fn kind_for(&self, role: &RoleConfig) -> ProviderKind {
        self.asked.or(role.provider).unwrap_or(self.config.fleet.provider)
    }

    /// The provider of this kind.
    pub(crate) fn provider(&self, kind: ProviderKind) -> Result<&Arc<dyn Provider>> {
        self.providers.iter().find(|provider| provider.kind() == kind).ok_or_else(|| {
            if kind == ProviderKind::Ec2 && !cfg!(feature = "ec2") {
                return Error::invalid("this ctl was built without EC2")
                    .hint("build it with the feature ec2, which is on by default");
            }
            Error::invalid(format!("the provider {kind} is not in use in this fleet"))
                .hint(format!("to use it, set `provider = \"{kind}\"` for a role in magpie.toml"))
        })
    }

    /// All providers in use, or only the one from `--provider`.
    pub(crate) fn providers(&self) -> &[Arc<dyn Provider>] {
        &self.providers
    }

    /// The name of the current user, as hosts see it.
    pub(crate) fn user_name(&self) -> Result<String> {
        Ok(self.fleet.current_user(SystemTime::now())?.user.name)
    }
}

fn open_local(config: &Config, directory: &Path, ctl: PathBuf, agent: PathBuf) -> Result<Local> {
    let settings = &config.local;
    let state = match &settings.state {
        Some(state) => directory.join(state),
        None => Local::default_state_dir()?,
    };
    Local::open(state, ctl, ImageSpec { agent, packages: settings.packages.clone() })
}

/// The providers of all roles, the default provider, and adopted machines; or only the one from `--provider`.
fn providers(
    config: &Config,
    asked: Option<ProviderKind>,
    local: &Local,
    ssh: &Ssh,
    #[cfg_attr(not(feature = "ec2"), expect(unused_variables, reason = "only EC2 is shared by fleets"))]
    fleet: &str,
) -> Vec<Arc<dyn Provider>> {
    let in_use = |kind| match asked {
        Some(asked) => asked == kind,
        None => {
            config.fleet.provider == kind || config.roles.values().any(|role| role.provider == Some(kind))
        }
    };
    let mut providers: Vec<Arc<dyn Provider>> = Vec::new();
    if in_use(ProviderKind::Local) {
        providers.push(Arc::new(local.clone()));
    }
    #[cfg(feature = "ec2")]
    if in_use(ProviderKind::Ec2) {
        providers.push(Arc::new(Ec2::new(&config.ec2, &config.connect, fleet)));
    }
    if asked.is_none_or(|asked| asked == ProviderKind::Ssh) {
        providers.push(Arc::new(ssh.clone()));
    }
    providers
}

/// Path of the running `ctl`, for its own re-execution.
fn own_binary() -> Result<PathBuf> {
    env::current_exe().map_err(|error| Error::invalid(format!("cannot find the path of ctl: {error}")))
}

/// The agent for this `ctl`: next to it in a build directory, else the path from the packages.
fn agent_binary(ctl: &Path) -> PathBuf {
    let beside = ctl.with_file_name("agent");
    if beside.is_file() { beside } else { PathBuf::from("/usr/lib/magpie/agent") }
}
