//! The packages with real package managers and systemd, on a host whose image has no agent. No host with an RPM
//! distribution is booted: rpm itself unpacks the .rpm, and its scriptlets run on the same host.

mod host;
mod packed;
mod rights;

use std::process::Child;

use tests::{Outcome, repository};

use self::{host::BareFleet, packed::Packed};

/// Properties of a unit that both packages must have, as reported by systemd.
const UNITS: [&str; 2] = ["magpie-agent.service", "magpie-record.service"];

#[test]
fn the_package_makes_a_host_keeps_its_runs_and_goes_without_a_trace() {
    let first = Packed::build(None);
    let next = Packed::build(Some("99.0"));
    let fleet = BareFleet::new();
    let (host, provision) = fleet.launch();

    // The provider's files are withheld: the package must work without them and open no port.
    host.ok("mv /var/lib/magpie /root/provided");
    host.write("/root/install.sh", &std::fs::read(repository("deploy/image/install.sh")).expect("read"));
    host.write("/root/agent.deb", &first.deb_bytes());
    let refused = host.sh("sh /root/install.sh --package /root/agent.deb --sha256 0000");
    assert!(refused.code != 0 && refused.stderr.contains("has the digest"), "{refused:?}");
    host.ok("! dpkg -s magpie-agent 2>/dev/null");
    for _ in 0..2 {
        host.ok("sh /root/install.sh --package /root/agent.deb --sha256 $(sha256sum /root/agent.deb | cut -d' ' -f1)");
    }
    host.up_and_enabled();
    assert_eq!(host.ok("systemctl is-enabled puppet.service || true").trim(), "masked");
    assert!(!host.listens(), "a port is open before an enrol document is there");

    host.ok("mv /root/provided/* /var/lib/magpie/");
    let outcome = Outcome::from(provision.wait_with_output().expect("ends"));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(host.listens());

    let agent = host.main_pid(UNITS[0]);
    let (mut run, supervisor) = fleet.start_run(&host);
    host.write("/root/next.deb", &next.deb_bytes());
    host.ok("dpkg -i /root/next.deb");
    host.up_and_enabled();
    assert_ne!(host.main_pid(UNITS[0]), agent, "the agent was not restarted");
    assert_eq!(host.run_supervisor(), supervisor, "the run was touched");
    host.ok("touch /run/upgraded");
    assert_eq!(finished(&mut run), "before\nafter\n");
    fleet.ok(&["status", "quick-1"]);

    host.ok("dpkg -r magpie-agent");
    host.down();
    host.ok("test ! -e /usr/lib/magpie/agent && test -e /var/lib/magpie/state");
    host.ok("dpkg -P magpie-agent");
    host.ok("test ! -e /var/lib/magpie");
    assert_eq!(host.ok("find /etc /usr /var/lib -name 'magpie-[ar]*' -o -name '*-magpie.preset'"), "");

    scriptlets_do_the_same(&host, &first);
}

/// The .rpm's files and scriptlets, called as rpm calls them (rpm's "Scriptlets" manual, argument $1).
fn scriptlets_do_the_same(host: &host::Host, packed: &Packed) {
    host.unpack(&packed.rpm_tree());
    for name in ["postin", "preun", "postun"] {
        host.write(&format!("/root/{name}"), &packed.scriptlet(name));
    }
    host.ok("sh -e /root/postin 1");
    host.up_and_enabled();
    let agent = host.main_pid(UNITS[0]);
    host.ok("sh -e /root/postin 2 && sh -e /root/preun 1 && sh -e /root/postun 1");
    host.up_and_enabled();
    assert_ne!(host.main_pid(UNITS[0]), agent, "the agent was not restarted");
    host.ok("sh -e /root/preun 0");
    host.down();
    host.ok("test -e /var/lib/magpie");
    for unit in UNITS {
        assert_eq!(host.ok(&format!("systemctl is-enabled {unit} || true")).trim(), "disabled");
    }
}

fn finished(run: &mut Child) -> String {
    let mut text = String::new();
    std::io::Read::read_to_string(run.stdout.as_mut().expect("captured"), &mut text).expect("text");
    assert!(run.wait().expect("ends").success(), "the run failed: {text}");
    text.lines().map(|line| line.rsplit(' ').next().unwrap_or_default().to_owned() + "\n").collect()
}

#[test]
fn both_formats_hold_the_same_files_and_ask_for_the_same() {
    let packed = Packed::build(None);
    for package in ["magpie-agent", "magpie-ctl"] {
        let (deb, rpm) = (packed.deb_files(package), packed.rpm_files(package));
        assert_eq!(deb, rpm, "{package}");
    }
    let agent = packed.deb_files("magpie-agent");
    for path in [
        "usr/lib/magpie/agent",
        "usr/lib/magpie/recorder",
        "usr/lib/systemd/system/magpie-agent.service",
        "usr/share/man/man8/magpie-agent.8.gz",
    ] {
        assert!(agent.contains_key(path), "{path} is missing: {agent:?}");
    }
    let ctl = packed.deb_files("magpie-ctl");
    for path in
        ["usr/bin/ctl", "usr/share/man/man1/ctl-provision.1.gz", "usr/share/bash-completion/completions/ctl"]
    {
        assert!(ctl.contains_key(path), "{path} is missing: {ctl:?}");
    }
    for file in ["usr/lib/magpie/agent", "usr/lib/magpie/recorder", "usr/bin/ctl"] {
        let newest = packed.newest_glibc(file);
        assert!(newest <= (2, 34), "{file} wants glibc {newest:?}, its packages promise 2.34");
    }
}

#[test]
fn the_manual_names_every_verb_and_option_of_the_agent() {
    let page = std::fs::read_to_string(repository("deploy/packages/magpie-agent/magpie-agent.8"))
        .expect("read")
        .replace('\\', "");
    let mut command = <agent::cli::Cli as clap::CommandFactory>::command();
    command.build();
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        assert!(page.contains(verb.get_name()), "magpie-agent.8 does not know {}", verb.get_name());
        for option in verb.get_arguments().filter_map(clap::Arg::get_long).filter(|long| *long != "help") {
            assert!(page.contains(&format!("--{option}")), "magpie-agent.8 does not know --{option}");
        }
    }
}
