//! Probes a machine in one round trip, without changing it, and checks whether the agent can run there.

use crate::{
    error::{Error, Result},
    provider::programs::Programs,
};

/// Runs a script from standard input, whatever the login shell is.
pub(super) const PROBE_COMMAND: &str = "exec sh -s";

/// Prints `key=value` lines and changes nothing. 02CD is port 717, 0A is a listening socket (proc_pid_net(5)).
pub(super) const PROBE: &str = r#"
LC_ALL=C; export LC_ALL
echo magpie=1
echo "system=$(uname -s)"
echo "architecture=$(uname -m)"
echo "libc=$(getconf GNU_LIBC_VERSION 2>/dev/null)"
[ ! -d /run/systemd/system ] || echo systemd=yes
if [ "$(id -u)" = 0 ]; then echo root=direct; as=
elif ! command -v sudo >/dev/null 2>&1; then as=false
elif sudo -n true 2>/dev/null; then echo root=sudo; as='sudo -n'
else echo root=password; as=false
fi
! $as test -e /var/lib/magpie/state || echo enrolled=yes
echo "fleet=$($as sed -n 's/.*"fleet_id": *"\([^"]*\)".*/\1/p' /var/lib/magpie/state/identity.json 2>/dev/null)"
for tree in usr var; do echo "free_$tree=$(df -Pk /$tree/lib | awk 'NR == 2 { print $4 }')"; done
! systemctl is-active --quiet magpie-agent 2>/dev/null || echo agent=active
awk '$4 == "0A" && $2 ~ /:02CD$/ { print "port=taken"; exit }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
exit 0
"#;

/// Oldest glibc that the agent runs with; also stated in README.
const GLIBC: (u32, u32) = (2, 34);
/// Free space for bundles, runs and the record, in KiB.
const ROOM: u64 = 200 << 10;

/// How commands are run as root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Root {
    /// The user is root.
    Direct,
    /// sudo needs no password.
    Sudo,
    /// sudo asks for a password.
    Password,
    /// There is no way.
    #[default]
    Never,
}

/// A machine's answer to the probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) root: Root,
    system: String,
    architecture: String,
    libc: String,
    systemd: bool,
    enrolled: bool,
    fleet: String,
    /// Free KiB for the programs, and for their data.
    free: [Option<u64>; 2],
    agent_active: bool,
    port_taken: bool,
}

impl Machine {
    /// Parses the answer to [`PROBE`]; a login shell may have printed more before it.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut machine = Self::default();
        let mut answered = false;
        for (key, value) in text.lines().filter_map(|line| line.trim_end().split_once('=')) {
            match (key, value) {
                ("magpie", "1") => answered = true,
                ("root", "direct") => machine.root = Root::Direct,
                ("root", "sudo") => machine.root = Root::Sudo,
                ("root", "password") => machine.root = Root::Password,
                ("system", value) => value.clone_into(&mut machine.system),
                ("architecture", value) => value.clone_into(&mut machine.architecture),
                ("libc", value) => value.clone_into(&mut machine.libc),
                ("systemd", "yes") => machine.systemd = true,
                ("enrolled", "yes") => machine.enrolled = true,
                ("fleet", value) => value.clone_into(&mut machine.fleet),
                ("free_usr", value) => machine.free[0] = value.parse().ok(),
                ("free_var", value) => machine.free[1] = value.parse().ok(),
                ("agent", "active") => machine.agent_active = true,
                ("port", "taken") => machine.port_taken = true,
                _ => {}
            }
        }
        if answered {
            return Ok(machine);
        }
        Err(Error::invalid("the machine has no POSIX shell, or its login shell did not run it"))
    }

    /// Checks that this agent can run on the machine and join `fleet`.
    pub(super) fn check(&self, programs: &Programs, fleet: &str) -> Result<()> {
        if self.system != "Linux" {
            return Err(Error::invalid(format!("it runs {:?}; the agent needs Linux", self.system)));
        }
        let built_for = architecture(&programs.agent)?;
        if self.architecture != built_for {
            let theirs = &self.architecture;
            return Err(Error::invalid(format!("it is {theirs}, but the agent is built for {built_for}"))
                .hint(format!("set `agent = …` in [local] of magpie.toml to an agent for {theirs}")));
        }
        match glibc(&self.libc) {
            Some(version) if version >= GLIBC => {}
            Some((major, minor)) => {
                let (least, most) = GLIBC;
                return Err(Error::invalid(format!(
                    "its glibc is {major}.{minor}; the agent needs {least}.{most} or newer"
                )));
            }
            None => return Err(Error::invalid("it has no glibc, which the agent needs")),
        }
        if !self.systemd {
            return Err(Error::invalid("it was not booted with systemd, which the agent needs"));
        }
        self.check_enrolment(fleet)?;
        if self.port_taken && !self.agent_active {
            let port = proto::PORT;
            return Err(Error::invalid(format!("its port {port} is already in use"))
                .hint(format!("`ss -lptn sport = :{port}` on the machine shows the process")));
        }
        self.check_room(programs)?;
        if self.root == Root::Never {
            return Err(Error::invalid("the user is not root, and the machine has no sudo")
                .hint("connect as root, or as a user with sudo"));
        }
        Ok(())
    }

    fn check_enrolment(&self, fleet: &str) -> Result<()> {
        if !self.enrolled {
            return Ok(());
        }
        let whose = match self.fleet.as_str() {
            "" => "an unknown fleet".to_owned(),
            own if own == fleet => "this fleet".to_owned(),
            other => format!("the fleet {other}"),
        };
        Err(Error::invalid(format!("it is already enrolled in {whose}"))
            .hint("`ctl destroy` with that fleet's CA directory removes the agent")
            .hint("or, as root on the machine: systemctl stop magpie-agent && rm -r /var/lib/magpie/state"))
    }

    fn check_room(&self, programs: &Programs) -> Result<()> {
        let program = (programs.size() as u64 >> 10) * 2;
        for (tree, free, needed) in [("/usr/lib", self.free[0], program), ("/var/lib", self.free[1], ROOM)] {
            if let Some(free) = free.filter(|free| *free < needed) {
                let (free, needed) = (free >> 10, needed >> 10);
                return Err(Error::invalid(format!("{tree} has {free} MiB free, but needs {needed} MiB")));
            }
        }
        Ok(())
    }
}

/// `glibc 2.36` as numbers; confstr(3), `_CS_GNU_LIBC_VERSION`.
fn glibc(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

/// The architecture of an ELF program, in the terms of `uname -m`; elf(5), `e_machine`.
fn architecture(program: &[u8]) -> Result<&'static str> {
    let machine = program.strip_prefix(b"\x7fELF").and_then(|rest| Some([*rest.get(14)?, *rest.get(15)?]));
    match machine.map(u16::from_le_bytes) {
        Some(62) => Ok("x86_64"),
        Some(183) => Ok("aarch64"),
        _ => Err(Error::invalid("the agent is not an x86_64 or aarch64 program")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "Welcome to db=x!\nmagpie=1\nsystem=Linux\narchitecture=x86_64\nlibc=glibc 2.36\n\
        systemd=yes\nroot=sudo\nfleet=\nfree_usr=4000000\nfree_var=4000000\n";

    fn agent(machine: u8) -> Vec<u8> {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(18, 0);
        elf.extend([machine, 0]);
        elf
    }

    fn programs(machine: u8) -> Programs {
        Programs { agent: agent(machine), recorder: Vec::new() }
    }

    fn verdict(change: &str) -> String {
        let machine = Machine::parse(&(ANSWER.to_owned() + change)).unwrap();
        machine.check(&programs(62), "ours").map_or_else(|error| error.to_string(), |()| "will do".to_owned())
    }

    #[test]
    fn each_unmet_requirement_is_named() {
        assert_eq!(verdict(""), "will do");
        for (change, said) in [
            ("system=FreeBSD\n", "it runs \"FreeBSD\"; the agent needs Linux"),
            ("architecture=aarch64\n", "it is aarch64, but the agent is built for x86_64"),
            ("libc=glibc 2.31\n", "its glibc is 2.31; the agent needs 2.34 or newer"),
            ("libc=\n", "it has no glibc, which the agent needs"),
            ("enrolled=yes\nfleet=theirs\n", "it is already enrolled in the fleet theirs"),
            ("enrolled=yes\nfleet=ours\n", "it is already enrolled in this fleet"),
            ("port=taken\n", "its port 717 is already in use"),
            ("port=taken\nagent=active\n", "will do"),
            ("free_var=1024\n", "/var/lib has 1 MiB free, but needs 200 MiB"),
        ] {
            assert_eq!(verdict(change), said);
        }
        let without =
            |line: &str| Machine::parse(&ANSWER.replace(line, "")).unwrap().check(&programs(62), "ours");
        assert!(without("systemd=yes\n").unwrap_err().to_string().contains("systemd"));
        assert!(without("root=sudo\n").unwrap_err().to_string().contains("no sudo"));
        Machine::parse("This account is not available.\n").unwrap_err();
    }

    #[test]
    fn the_agent_says_what_it_is_for() {
        assert_eq!(architecture(&agent(183)).unwrap(), "aarch64");
        for other in [agent(3), b"#!/bin/sh\n".to_vec(), b"\x7fELF".to_vec()] {
            architecture(&other).unwrap_err();
        }
    }

    /// Runs the real script in this machine's shell.
    #[test]
    fn a_linux_machine_answers() {
        let output = std::process::Command::new("sh").args(["-c", PROBE]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let machine = Machine::parse(&text).unwrap();
        assert!(output.status.success() && machine.system == "Linux" && machine.free[0].is_some(), "{text}");
        assert!(glibc(&machine.libc).is_some(), "{text}");
    }

    proptest::proptest! {
        #[test]
        fn foreign_text_never_panics(text in "(magpie=1\n)?(\\PC|\n)*", agent: Vec<u8>) {
            if let Ok(machine) = Machine::parse(&text) {
                let _ = machine.check(&Programs { agent, recorder: Vec::new() }, "ours");
            }
            glibc(&text);
        }
    }
}
