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
        self.running_and_stopped(names, role).await.map(|(running, _)| running)
    }

    /// The hosts of [`Context::running`], and the stopped hosts that were not named, but would be included if they ran.
    ///
    /// # Errors
    /// As [`Context::running`].
    pub(crate) async fn running_and_stopped(
        &self,
        names: &[String],
        role: Option<&str>,
    ) -> Result<(Vec<Host>, Vec<Host>)> {
        // Report a bad certificate once, not for each host.
        self.fleet.current_user(SystemTime::now())?;
        let all = self.hosts().await?;
        if !names.is_empty() {
            let hosts = each_once(&all, names)?;
            if let Some(host) = hosts.iter().find(|host| host.state == HostState::Stopped) {
                return Err(stopped(host));
            }
            return Ok((hosts, Vec::new()));
        }
        if let Some(role) = role {
            self.config.role(role)?;
        }
        by_state(all, role)
    }
}

/// Running and stopped hosts, of a role or of all.
fn by_state(all: Vec<Host>, role: Option<&str>) -> Result<(Vec<Host>, Vec<Host>)> {
    // Image builders have no role and no agent to connect to.
    let is_meant = |host: &Host| role.map_or(!host.role.is_empty(), |role| host.role == role);
    let (running, others): (Vec<_>, Vec<_>) =
        all.into_iter().filter(is_meant).partition(|host| host.state == HostState::Running);
    let stopped: Vec<_> = others.into_iter().filter(|host| host.state == HostState::Stopped).collect();
    if !running.is_empty() {
        return Ok((running, stopped));
    }
    let of_role = role.map(|role| format!(" of role {role}")).unwrap_or_default();
    let names: Vec<_> = stopped.iter().map(|host| host.name.as_str()).collect();
    Err(Error::new(Kind::Unreachable, format!("no running host{of_role}")).hint(match names.as_slice() {
        [] => format!("`ctl provision --role {}` launches one", role.unwrap_or("ROLE")),
        [name] => format!("`ctl start {name}` boots the stopped one"),
        names => format!("`ctl start {}` boots the stopped ones", names.join(" ")),
    }))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, state: HostState) -> Host {
        Host { state, ..Host::example(ProviderKind::Local, &format!("l-{name}"), name) }
    }

    fn names(hosts: &[Host]) -> Vec<&str> {
        hosts.iter().map(|host| host.name.as_str()).collect()
    }

    #[test]
    fn stopped_hosts_are_told_from_running_ones() {
        let builder = Host { role: String::new(), ..host("builder", HostState::Running) };
        let web = Host { role: "web".into(), ..host("web-1", HostState::Stopped) };
        let down = host("db-2", HostState::Stopped);
        let all = vec![host("db-1", HostState::Running), down.clone(), builder, web.clone()];
        let (running, stopped) = by_state(all.clone(), None).expect("one runs");
        assert_eq!((names(&running), names(&stopped)), (vec!["db-1"], vec!["db-2", "web-1"]));
        let (running, stopped) = by_state(all, Some("db")).expect("one runs");
        assert_eq!((names(&running), names(&stopped)), (vec!["db-1"], vec!["db-2"]));

        let refused = |all, role| {
            let error = by_state(all, role).expect_err("none runs");
            assert_eq!(error.kind(), Kind::Unreachable);
            format!("{error}; {}", error.hints().join("; "))
        };
        assert_eq!(refused(Vec::new(), None), "no running host; `ctl provision --role ROLE` launches one");
        assert_eq!(
            refused(vec![down.clone(), web.clone()], None),
            "no running host; `ctl start db-2 web-1` boots the stopped ones"
        );
        assert_eq!(
            refused(vec![down, web], Some("web")),
            "no running host of role web; `ctl start web-1` boots the stopped one"
        );
    }
}
