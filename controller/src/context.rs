//! What was typed, looked up: configuration, fleet, provider, and the hosts that were meant.

use std::{
    env, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::time::sleep;
use tonic::transport::Channel;

#[cfg(feature = "ec2")]
use crate::provider::ec2::Ec2;
use crate::{
    cli::{Chosen, Cli, Command},
    client::{self, Outcome},
    config::{Config, RoleConfig},
    error::{Error, Kind, Result},
    pki::Fleet,
    provider::{
        Host, HostState, ImageSpec, Kind as ProviderKind, Provider, Standing, Stream, local::Local, name,
        ssh::Ssh,
    },
};

/// How long a host that is up may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Between attempts to speak with a host through a proxy command: doubled by each, up to the last.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// After this many failures the cause is not a race.
const ENROL_ATTEMPTS: usize = 3;

/// Everything a command needs to act on a fleet.
#[derive(Debug)]
pub struct Context {
    /// The configuration file.
    pub config: Config,
    /// Directory that relative paths in it refer to.
    pub directory: PathBuf,
    /// The fleet's keys.
    pub fleet: Fleet,
    /// The hosts on this machine, and the images that Puppet code is checked in.
    pub local: Local,
    /// Machines that were adopted.
    pub ssh: Ssh,
    /// Where hosts come from: those that are in use, or the one that was asked for.
    providers: Vec<Arc<dyn Provider>>,
    /// The provider that was asked for.
    asked: Option<ProviderKind>,
}

/// What it took to get a connection.
#[derive(Debug)]
pub struct Connected {
    /// Authenticated both ways.
    pub channel: Channel,
    /// From the first attempt to an answering port.
    pub boot: Duration,
    /// Enrolment and the first mutual TLS handshake.
    pub enrol: Duration,
}

impl Context {
    /// Loads the configuration and opens what it names.
    pub fn load(cli: &Cli) -> Result<Self> {
        let here =
            env::current_dir().map_err(|error| Error::invalid(format!("no current directory: {error}")))?;
        let (config, directory) = Config::load(cli.config.as_deref(), &here)?;
        let ca = directory.join(&config.fleet.ca);
        let fleet = Fleet::open(&ca)?;
        let fleet = match &cli.speak_as {
            Some(user) => fleet.with_user(user),
            None => fleet,
        };
        // Who issues certificates speaks as nobody, perhaps before there is anybody.
        if !matches!(cli.command, Command::User(_)) {
            fleet.check_chosen()?;
        }
        let ctl = own_binary()?;
        let agent = match &config.local.agent {
            Some(path) => directory.join(path),
            None => agent_binary(&ctl),
        };
        let local = open_local(&config, &directory, ctl, agent.clone())?;
        let ssh = Ssh::new(&ca, agent, config.connect.clone());
        let providers = providers(&config, cli.provider, &local, &ssh, fleet.id());
        Ok(Self { config, directory, fleet, local, ssh, providers, asked: cli.provider })
    }

    /// Where new hosts with these settings come from.
    pub fn kind_for(&self, role: &RoleConfig) -> ProviderKind {
        self.asked.or(role.provider).unwrap_or(self.config.fleet.provider)
    }

    /// The provider of this kind.
    pub fn provider(&self, kind: ProviderKind) -> Result<&Arc<dyn Provider>> {
        self.providers.iter().find(|provider| provider.kind() == kind).ok_or_else(|| {
            if kind == ProviderKind::Ec2 && !cfg!(feature = "ec2") {
                return Error::invalid("this ctl was built without EC2")
                    .hint("build it with the feature ec2, which is there unless it is turned off");
            }
            Error::invalid(format!("no hosts of the provider {kind} are in use here"))
                .hint(format!("a role with `provider = \"{kind}\"` in magpie.toml uses it"))
        })
    }

    /// All providers in use, or the one that was asked for.
    pub fn providers(&self) -> &[Arc<dyn Provider>] {
        &self.providers
    }

    /// All hosts of the fleet.
    pub async fn hosts(&self) -> Result<Vec<Host>> {
        self.list(false).await
    }

    /// All hosts of the fleet, of providers with regions in all of these if `everywhere`.
    pub async fn list(&self, everywhere: bool) -> Result<Vec<Host>> {
        let (mut hosts, fleet) = (Vec::new(), self.fleet.id());
        for provider in &self.providers {
            hosts.extend(match everywhere {
                true => provider.hosts_everywhere(fleet).await?,
                false => provider.hosts(fleet).await?,
            });
        }
        name::make_unique(&mut hosts);
        Ok(hosts)
    }

    /// Hosts of all providers but this one, as far as they can be listed now.
    pub async fn hosts_elsewhere(&self, kind: ProviderKind) -> Vec<Host> {
        let mut hosts = Vec::new();
        for provider in self.providers.iter().filter(|provider| provider.kind() != kind) {
            // Only their names are of interest: not worth failing for.
            hosts.extend(provider.hosts(self.fleet.id()).await.unwrap_or_default());
        }
        hosts
    }

    /// The name that hosts know us by.
    pub fn user_name(&self) -> Result<String> {
        Ok(self.fleet.current_user(SystemTime::now())?.user.name)
    }

    /// The hosts of these names or ids, in the order typed, in any state.
    pub async fn named(&self, names: &[String]) -> Result<Vec<Host>> {
        let all = self.hosts().await?;
        each_once(&all, names)
    }

    /// The host of this name or id, in any state.
    pub async fn one(&self, name: &str) -> Result<Host> {
        find(&self.hosts().await?, name).cloned()
    }

    /// Running hosts of a verb that changes something: never all, unless that was said.
    pub async fn chosen(&self, chosen: &Chosen, verb: &str) -> Result<Vec<Host>> {
        if chosen.hosts.is_empty() && chosen.role.is_none() && !chosen.all {
            return Err(Error::invalid(format!("{verb} changes hosts, and none was named"))
                .hint(format!("`ctl {verb} HOST…`, `ctl {verb} --role ROLE`, or `ctl {verb} --all`")));
        }
        self.running(&chosen.hosts, chosen.role.as_deref()).await
    }

    /// Running hosts: those named, or those of the role, or all. An empty choice is an error.
    pub async fn running(&self, names: &[String], role: Option<&str>) -> Result<Vec<Host>> {
        // Said once, not by each host.
        self.fleet.current_user(SystemTime::now())?;
        let all = self.hosts().await?;
        if !names.is_empty() {
            let hosts = each_once(&all, names)?;
            if let Some(host) = hosts.iter().find(|host| host.state == HostState::Stopped) {
                return Err(stopped(host));
            }
            return Ok(hosts);
        }
        if let Some(role) = role {
            self.config.role(role)?;
        }
        let chosen: Vec<Host> = all
            .into_iter()
            // What makes an image has no role, and nobody to answer.
            .filter(|host| {
                host.state == HostState::Running
                    && role.map_or(!host.role.is_empty(), |role| host.role == role)
            })
            .collect();
        if chosen.is_empty() {
            let of_role = role.map(|role| format!(" of role {role}")).unwrap_or_default();
            return Err(Error::new(Kind::Unreachable, format!("no running host{of_role}"))
                .hint(format!("`ctl provision --role {}` makes one", role.unwrap_or("ROLE"))));
        }
        Ok(chosen)
    }

    /// Connects to a host; enrols it first if no controller has finished that.
    pub async fn connect(&self, host: &Host) -> Result<Connected> {
        let patience = if host.enrolled() { ANSWER } else { self.provider(host.provider)?.boot_time() };
        self.connect_until(host, Instant::now() + patience).await
    }

    /// Connects to a host that was just started, with the patience that a boot needs.
    pub async fn connect_after_boot(&self, host: &Host) -> Result<Connected> {
        let patience = self.provider(host.provider)?.boot_time();
        self.connect_until(host, Instant::now() + patience).await
    }

    /// Connects to a host if it answers at once.
    pub async fn connect_now(&self, host: &Host) -> Result<Connected> {
        self.connect_until(host, Instant::now()).await
    }

    /// What stands behind a proxy command shows only when it is spoken to: then the whole is tried again.
    async fn connect_until(&self, host: &Host, deadline: Instant) -> Result<Connected> {
        let (started, mut pause) = (Instant::now(), PAUSES[0]);
        loop {
            match self.attempt(host, started, deadline).await {
                Err(error) if error.is_absent() && Instant::now() + pause < deadline => sleep(pause).await,
                Err(error) if error.is_absent() => {
                    let what = format!("{} does not answer on port {}", host.name, proto::PORT);
                    return Err(self.with_console(host, error.context(what)).await);
                }
                Err(error) if !host.enrolled() => return Err(self.with_console(host, error).await),
                outcome => return outcome,
            }
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    async fn attempt(&self, host: &Host, started: Instant, deadline: Instant) -> Result<Connected> {
        let mut stream = self.dial(host, deadline).await?;
        let boot = started.elapsed();
        let mut enrolled = None;
        if !host.enrolled() {
            enrolled = Some(self.enrol(host, stream, deadline).await?);
            stream = self.dial(host, deadline).await?;
        }
        let channel = client::connect(stream, &self.fleet, &host.id)
            .await
            .map_err(|error| error.context_once(&host.name))?;
        // Where somebody else was quicker, he also knows what has become of the host since.
        if enrolled == Some(Outcome::Committed) {
            let mut host = host.clone();
            host.usage.standing = Standing::Claimed;
            self.provider(host.provider)?.mark(&host).await?;
        }
        Ok(Connected { channel, boot, enrol: started.elapsed() - boot })
    }

    /// Enrolment may be broken off from outside, by another controller that was quicker or by a lost connection;
    /// trying again is safe, and finds out which.
    async fn enrol(&self, host: &Host, mut stream: Stream, deadline: Instant) -> Result<Outcome> {
        self.fleet.enroller(SystemTime::now())?;
        let mut attempt = 1;
        loop {
            match client::enrol(stream, &self.fleet, &host.tid, &host.id).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) if error.is_absent() => return Err(error),
                Err(error) if attempt == ENROL_ATTEMPTS || error.kind() != Kind::Unreachable => {
                    return Err(error.context("enrolment"));
                }
                Err(_) => stream = self.dial(host, deadline).await?,
            }
            attempt += 1;
        }
    }

    /// What a host cannot say over the network it says on its console.
    async fn with_console(&self, host: &Host, error: Error) -> Error {
        let Ok(provider) = self.provider(host.provider) else { return error };
        let console = provider.console(host).await.unwrap_or_default();
        match console.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(last) => error.hint(format!("the last line on its console: {}", last.trim())),
            None => error,
        }
    }

    async fn dial(&self, host: &Host, deadline: Instant) -> Result<Stream> {
        let provider = self.provider(host.provider)?;
        provider.dial_until(host, proto::PORT, deadline).await.map_err(|error| gone(host, &error))
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

/// Those that a role names, the default, and machines that were adopted; or the one that was asked for.
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

/// The hosts of these names or ids; one that is named twice is meant once.
fn each_once(all: &[Host], names: &[String]) -> Result<Vec<Host>> {
    let mut hosts: Vec<Host> = Vec::new();
    for name in names {
        let host = find(all, name)?;
        if !hosts.iter().any(|chosen| chosen.id == host.id) {
            hosts.push(host.clone());
        }
    }
    Ok(hosts)
}

fn find<'a>(all: &'a [Host], name: &str) -> Result<&'a Host> {
    let mut meant = all.iter().filter(|host| host.name == name || host.id == name);
    let (first, second) = (meant.next(), meant.next());
    if let (Some(one), Some(other)) = (first, second) {
        return Err(Error::invalid(format!("two hosts are called {name}"))
            .hint(format!("by id they differ: {} or {}", one.id, other.id)));
    }
    first.ok_or_else(|| {
        let known: Vec<_> = all.iter().map(|host| host.name.as_str()).collect();
        let error = Error::invalid(format!("no host {name:?} in this fleet"));
        if known.is_empty() {
            error.hint("the fleet has no hosts: `ctl provision --role ROLE` makes one")
        } else {
            error.hint(format!("hosts: {}", known.join(", ")))
        }
    })
}

fn stopped(host: &Host) -> Error {
    Error::unreachable(format!("{} is stopped", host.name))
        .hint(format!("`ctl start {}` boots it", host.name))
}

fn gone(host: &Host, error: &io::Error) -> Error {
    Error::unreachable(format!("{} does not answer on port {}: {error}", host.name, proto::PORT))
        .hint("`ctl hosts` shows whether it runs")
}

/// Path of the running `ctl`, for its own re-execution.
fn own_binary() -> Result<PathBuf> {
    env::current_exe().map_err(|error| Error::invalid(format!("the path of ctl is unknown: {error}")))
}

/// The agent that belongs to this `ctl`: beside it in a build directory, else where packages put it.
fn agent_binary(ctl: &Path) -> PathBuf {
    let beside = ctl.with_file_name("agent");
    if beside.is_file() { beside } else { PathBuf::from("/usr/lib/magpie/agent") }
}
