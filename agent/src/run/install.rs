//! Installs a missing Puppet with the host's own package manager.

use std::path::Path;

/// One command. It may fail: all that matters is whether Puppet is installed afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Program and arguments.
    pub argv: Vec<String>,
}

/// How long apt waits for another process that holds its lock, such as unattended-upgrades at first boot.
const APT_LOCK: &str = "DPkg::Lock::Timeout=600";

/// The commands that install Puppet, to be run in order until Puppet is found; empty without a known package manager.
///
/// `exists` tells whether a program is on the host.
pub fn plan(exists: impl Fn(&Path) -> bool) -> Vec<Step> {
    let has = |program: &str| exists(&Path::new("/usr/bin").join(program));
    if has("apt-get") {
        let apt = ["apt-get", "-q", "-y", "-o", APT_LOCK];
        let install = |package| step(&apt, &["install", "--no-install-recommends", package]);
        return vec![step(&apt, &["update"]), install("puppet-agent"), install("puppet")];
    }
    let Some(manager) = ["dnf", "yum"].into_iter().find(|manager| has(manager)) else { return Vec::new() };
    ["openvox-agent", "puppet-agent", "puppet"]
        .map(|package| step(&[manager, "-y", "install"], &[package]))
        .into()
}

fn step(start: &[&str], end: &[&str]) -> Step {
    Step { argv: start.iter().chain(end).map(|&word| word.to_owned()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(present: &str) -> Vec<String> {
        plan(|path| path.ends_with(present)).into_iter().map(|step| step.argv.join(" ")).collect()
    }

    #[test]
    fn each_family_gets_its_own_manager() {
        let apt = programs("apt-get");
        assert!(apt[0].ends_with("update") && apt[1].ends_with("puppet-agent"), "{apt:?}");
        assert!(apt.iter().all(|command| command.contains(APT_LOCK)));
        assert_eq!(programs("dnf")[0], "dnf -y install openvox-agent");
        assert_eq!(programs("yum")[0], "yum -y install openvox-agent");
        assert!(programs("nothing").is_empty());
    }
}
