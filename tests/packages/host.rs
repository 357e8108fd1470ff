//! A host without an agent, and a way to run commands on it.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    ops::Deref,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tests::{Fleet, Outcome, repository};

use super::UNITS;

/// A fleet whose image has programs that do nothing instead of Magpie's.
pub(crate) struct BareFleet(Fleet);

impl Deref for BareFleet {
    type Target = Fleet;

    fn deref(&self) -> &Fleet {
        &self.0
    }
}

impl BareFleet {
    pub(crate) fn new() -> Self {
        let fleet = Fleet::new(&repository("tests/fixtures/control"), &["quick"]);
        let idle = fleet.directory().join("agent");
        for program in [&idle, &fleet.directory().join("recorder")] {
            fs::write(program, "#!/bin/sh\nexec sleep infinity\n").expect("written");
        }
        let path = fleet.directory().join("magpie.toml");
        let config = fs::read_to_string(&path).expect("read");
        let baked = format!("agent = {:?}", tests::binary("agent"));
        assert!(config.contains(&baked), "{config}");
        fs::write(&path, config.replace(&baked, &format!("agent = {idle:?}"))).expect("written");
        fleet.ok(&["bake"]);
        Self(fleet)
    }

    /// Launches a host and removes the placeholder; `ctl` keeps waiting for an agent.
    pub(crate) fn launch(&self) -> (Host, Child) {
        let mut provision = self.spawn(&["provision", "--role", "quick"]);
        let hosts = self.cloud().join("hosts");
        let init = loop {
            let booted = fs::read_dir(&hosts).into_iter().flatten().flatten().find_map(|entry| {
                // Written when the host's init has become systemd: the supervisor and that init.
                let pids = fs::read_to_string(entry.path().join("running")).ok()?;
                pids.split_whitespace().nth(1)?.parse::<u32>().ok()
            });
            match booted {
                Some(init) => break init,
                None => assert!(provision.try_wait().expect("waits").is_none(), "ctl gave up"),
            }
            thread::sleep(Duration::from_millis(20));
        };
        let host = Host { init };
        host.ok("until systemctl is-active --quiet sysinit.target; do sleep 0.05; done");
        host.ok("systemctl disable --now --quiet magpie-agent magpie-record
             rm -rf /usr/lib/magpie /usr/lib/systemd/system/magpie-*
             systemctl daemon-reload");
        (host, provision)
    }

    /// Starts a run that ends when /run/upgraded exists; returns it with its supervisor on the host.
    pub(crate) fn start_run(&self, host: &Host) -> (Child, String) {
        let script = "echo before; until test -e /run/upgraded; do sleep 0.1; done; echo after";
        let mut run = self.spawn(&["run", "quick-1", "--", "sh", "-c", script]);
        let said = BufReader::new(run.stderr.as_mut().expect("captured")).lines().map_while(Result::ok);
        assert!(said.into_iter().any(|line| line.contains("run quick-1-")), "ctl named no run");
        host.ok("until pgrep -f 'until test -e /run/upgraded' >/dev/null; do sleep 0.05; done");
        (run, host.run_supervisor())
    }
}

/// A booted host, entered through its namespaces.
pub(crate) struct Host {
    init: u32,
}

impl Host {
    fn enter(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--all", "--target"]).arg(self.init.to_string()).args(["--", "sh", "-c", script]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command
    }

    pub(crate) fn sh(&self, script: &str) -> Outcome {
        Outcome::from(self.enter(script).stdin(Stdio::null()).output().expect("nsenter starts"))
    }

    /// Runs a shell script as root and asserts success.
    #[track_caller]
    pub(crate) fn ok(&self, script: &str) -> String {
        let outcome = self.sh(script);
        assert_eq!(outcome.code, 0, "{script}\n{}\n{}", outcome.stdout, outcome.stderr);
        outcome.stdout
    }

    /// Writes a file, through a pipe: the machine's root is `nobody` in the host's user namespace.
    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        self.feed(&format!("cat >{path}"), content);
    }

    /// Unpacks a tar archive over the root.
    pub(crate) fn unpack(&self, archive: &[u8]) {
        self.feed("tar --extract --no-same-owner --directory /", archive);
    }

    fn feed(&self, script: &str, content: &[u8]) {
        let mut child = self.enter(script).stdin(Stdio::piped()).spawn().expect("nsenter starts");
        child.stdin.take().expect("piped").write_all(content).expect("fed");
        assert!(child.wait().expect("ends").success(), "{script}");
    }

    #[track_caller]
    pub(crate) fn up_and_enabled(&self) {
        for unit in UNITS {
            let state = self.sh(&format!("systemctl is-enabled {unit}; systemctl is-active {unit}")).stdout;
            let log = || self.sh(&format!("journalctl --no-pager --lines 20 --unit {unit}")).stdout;
            assert_eq!(state, "enabled\nactive\n", "{unit}\n{}", log());
        }
    }

    /// Asserts that neither unit runs and that no process of the agent is left.
    #[track_caller]
    pub(crate) fn down(&self) {
        let left = self.sh("systemctl is-active magpie-agent magpie-record; pgrep -af '^/usr/lib/magpie'");
        assert_eq!(left.stdout, "inactive\ninactive\n");
    }

    /// Whether anything listens on the agent's port, 717 (proc_net(5): 02CD, state 0A).
    pub(crate) fn listens(&self) -> bool {
        self.sh("cat /proc/net/tcp /proc/net/tcp6").stdout.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            words.next().is_some_and(|local| local.ends_with(":02CD")) && words.nth(1) == Some("0A")
        })
    }

    pub(crate) fn main_pid(&self, unit: &str) -> String {
        self.ok(&format!("systemctl show --property MainPID --value {unit}"))
    }

    /// Unit and supervisor of the only run in progress.
    #[track_caller]
    pub(crate) fn run_supervisor(&self) -> String {
        let found = self.ok("systemctl show --property Id,MainPID,ActiveState 'magpie-run-*'");
        assert_eq!(found.matches("ActiveState=active").count(), 1, "{found}");
        found
    }
}
