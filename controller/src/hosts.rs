//! Selects hosts: all hosts of the fleet, hosts by name, or hosts of a role.

use std::time::SystemTime;

use crate::{
    context::Context,
    error::{Error, Kind, Result},
    provider::{Host, HostState, Kind as ProviderKind, name},
};

impl Context {
    /// All hosts of the fleet.
    pub(crate) async fn hosts(&self) -> Result<Vec<Host>> {
        self.list(false).await
    }

    /// All hosts of the fleet; with `everywhere`, in all regions of providers that have regions.
    pub(crate) async fn list(&self, everywhere: bool) -> Result<Vec<Host>> {
        let (mut hosts, fleet) = (Vec::new(), self.fleet.id());
        for provider in self.providers() {
            hosts.extend(match everywhere {
                true => provider.hosts_everywhere(fleet).await?,
                false => provider.hosts(fleet).await?,
            });
        }
        name::make_unique(&mut hosts);
        Ok(hosts)
    }

    /// Hosts of all other providers, as far as they can be listed now.
    pub(crate) async fn hosts_elsewhere(&self, kind: ProviderKind) -> Vec<Host> {
        let mut hosts = Vec::new();
        for provider in self.providers().iter().filter(|provider| provider.kind() != kind) {
            // Only their names are needed, so a failure here is ignored.
            hosts.extend(provider.hosts(self.fleet.id()).await.unwrap_or_default());
        }
        hosts
    }

    /// The hosts with these names or ids, in the order given, in any state.
    pub(crate) async fn named(&self, names: &[String]) -> Result<Vec<Host>> {
        let all = self.hosts().await?;
        each_once(&all, names)
    }

    /// The host with this name or id, in any state.
    pub(crate) async fn one(&self, name: &str) -> Result<Host> {
        find(&self.hosts().await?, name).cloned()
    }

    /// Running hosts for a command that changes hosts: all of them only with `all`.
    pub(crate) async fn chosen(
        &self,
        names: &[String],
        role: Option<&str>,
        all: bool,
        verb: &str,
    ) -> Result<Vec<Host>> {
        if names.is_empty() && role.is_none() && !all {
            return Err(Error::invalid(format!("{verb} changes hosts, so you must name them"))
                .hint(format!("`ctl {verb} HOST…`, `ctl {verb} --role ROLE`, or `ctl {verb} --all`")));
        }
        self.running(names, role).await
    }

    /// Running hosts: by name, or of a role, or all.
    ///
    /// # Errors
    /// A named host is stopped or unknown, or there is no running host.
    pub(crate) async fn running(&self, names: &[String], role: Option<&str>) -> Result<Vec<Host>> {
        // Report a bad certificate once, not for each host.
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
            // Image builders have no role and no agent to connect to.
            .filter(|host| {
                host.state == HostState::Running
                    && role.map_or(!host.role.is_empty(), |role| host.role == role)
            })
            .collect();
        if chosen.is_empty() {
            let of_role = role.map(|role| format!(" of role {role}")).unwrap_or_default();
            return Err(Error::new(Kind::Unreachable, format!("no running host{of_role}"))
                .hint(format!("`ctl provision --role {}` launches one", role.unwrap_or("ROLE"))));
        }
        Ok(chosen)
    }
}

/// The hosts with these names or ids, each once.
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
            .hint(format!("use the id instead: {} or {}", one.id, other.id)));
    }
    first.ok_or_else(|| {
        let known: Vec<_> = all.iter().map(|host| host.name.as_str()).collect();
        let error = Error::invalid(format!("no host {name:?} in this fleet"));
        if known.is_empty() {
            error.hint("the fleet has no hosts: `ctl provision --role ROLE` launches one")
        } else {
            error.hint(format!("hosts: {}", known.join(", ")))
        }
    })
}

fn stopped(host: &Host) -> Error {
    Error::unreachable(format!("{} is stopped", host.name))
        .hint(format!("`ctl start {}` boots it", host.name))
}
