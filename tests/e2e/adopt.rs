//! `ctl adopt` on existing machines. The machine is a local host whose agent was removed. `ctl` reaches it over
//! real ssh, and then only on port 717, both through proxy commands into its network.

use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use controller::provider::ssh;
use tests::{Fleet, repository};

/// Proxy command: connects to $1, port $2, in the network of the cloud.
const DIAL: &str = r#"exec nsenter --user=/proc/PID/ns/user --net=/proc/PID/ns/net perl -MIO::Socket::INET -MIO::Select -e '
$host = IO::Socket::INET->new("$ARGV[0]:$ARGV[1]") or die "connect: $!\n";
$both = IO::Select->new($host, \*STDIN);
while (@ready = $both->can_read) {
    for $from (@ready) {
        sysread($from, $bytes, 65536) or exit;
        $to = $from == $host ? \*STDOUT : $host;
        while (length $bytes) { substr($bytes, 0, syswrite($to, $bytes) // exit) = "" }
    }
}' "$1" "$2""#;
/// The same, but fails the first three times, as if the machine were not up yet.
const DIAL_LATE: &str =
    "echo >>\"$0.count\"; [ $(wc -l <\"$0.count\") -gt 3 ] || { echo not yet >&2; exit 1; }\n";
/// An sshd, and users with sudo rights: one without and one with a password.
const PREPARE: &str = r#"
export DEBIAN_FRONTEND=noninteractive
apt-get install -qq -y --no-install-recommends openssh-server sudo >/dev/null 2>&1
for user in free asked; do useradd -m -s /bin/bash $user; echo $user:secret | chpasswd; done
echo 'free ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/free
echo 'asked ALL=(ALL) ALL' >/etc/sudoers.d/asked
for home in /root /home/free /home/asked; do
    install -d -m 700 $home/.ssh; echo "$1" >$home/.ssh/authorized_keys; chown -R --reference=$home $home/.ssh
done
systemctl restart ssh
"#;

/// A machine with sshd and without an agent, and a fleet that does not know it yet.
struct Lab {
    ours: Fleet,
    /// The fleet whose local host the machine is.
    theirs: Fleet,
    ssh_config: PathBuf,
}

impl Lab {
    fn new() -> Self {
        let [theirs, ours] = [(); 2].map(|()| Fleet::new(&repository("tests/fixtures/control"), &["quick"]));
        theirs.ok(&["provision", "--role", "quick"]);
        let host = theirs.json(&["hosts"]).remove(0);
        let (id, address) = (host["id"].as_str().expect("an id"), host["address"].as_str().expect("one"));
        let running =
            fs::read_to_string(theirs.cloud().join("hosts").join(id).join("running")).expect("pids");
        // The last pid is the keeper's, which is in the cloud's network.
        let dial = DIAL.replace("PID", running.split(' ').next_back().expect("a pid"));

        let here = ours.directory();
        let file = |name: &str, content: &str| {
            fs::write(here.join(name), content).expect("written");
            here.join(name).display().to_string()
        };
        let (now, late) = (file("dial", &dial), file("dial-late", &format!("{DIAL_LATE}{dial}")));
        let key = here.join("key").display().to_string();
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]).status();
        assert!(made.expect("runs").success());
        file(
            "ssh_config",
            &format!(
                "Host machine\n HostName {address}\n ProxyCommand sh {now} %h %p\nHost *\n User root\n \
                 IdentityFile {key}\n IdentitiesOnly yes\n UserKnownHostsFile {key}.known\n \
                 StrictHostKeyChecking accept-new\n"
            ),
        );
        let config = fs::read_to_string(here.join("magpie.toml")).expect("read");
        file("magpie.toml", &format!("{config}[connect]\nproxy = \"sh {late} %h %p\"\n"));
        let public = fs::read_to_string(format!("{key}.pub")).expect("a key");
        theirs.ok(&["run", "quick-1", "--", "sh", "-ec", PREPARE, "sh", public.trim()]);
        Self { ssh_config: here.join("ssh_config"), ours, theirs }
    }

    fn config(&self) -> &str {
        self.ssh_config.to_str().expect("UTF-8")
    }

    /// Runs a command on the machine over ssh.
    #[track_caller]
    fn ssh(&self, command: &str) -> String {
        let output =
            Command::new("ssh").args(["-F", self.config(), "machine", command]).output().expect("runs");
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Arguments of `ctl adopt` for a user of the machine.
    fn adopting<'a>(&'a self, destination: &'a str) -> Vec<&'a str> {
        vec!["adopt", destination, "--role", "quick", "--", "-F", self.config()]
    }

    /// Removes the agent that the machine was created with.
    fn strip(&self) {
        let removal = ssh::removal();
        let args = ["run", "quick-1", "--"].into_iter().chain(removal.iter().map(String::as_str));
        self.theirs.ok(&args.collect::<Vec<_>>());
        self.ssh("while test -e /var/lib/magpie; do sleep 0.1; done");
    }

    #[track_caller]
    fn no_agent_is_left(&self) {
        self.ssh("while test -e /var/lib/magpie; do sleep 0.1; done");
        let left =
            "ls -d /usr/lib/magpie /usr/lib/systemd/system/magpie* /etc/systemd/system/*/magpie* || true";
        assert_eq!(self.ssh(left), "");
        assert_eq!(
            self.ssh("systemctl list-units --all --no-legend 'magpie-*.service' | grep -v removal || true"),
            ""
        );
    }
}

#[test]
fn a_machine_is_adopted_used_without_ssh_and_left_as_it_was() {
    let lab = Lab::new();
    let Lab { ours, theirs, .. } = &lab;

    // Errors are found before anything changes.
    let refused = ours.exits(2, &lab.adopting("machine")).stderr;
    let fleet = fs::read_to_string(theirs.directory().join(".magpie/fleet.json")).expect("read");
    let fleet: serde_json::Value = serde_json::from_str(&fleet).expect("JSON");
    let enrolled =
        format!("machine: it is already enrolled in the fleet {}", fleet["id"].as_str().expect("id"));
    assert!(refused.contains(&enrolled), "{refused}");
    lab.strip();
    let sit = "use IO::Socket::INET; $s = IO::Socket::INET->new(Listen => 1, LocalPort => 717, ReuseAddr => 1) or die; \
        system \"systemd-notify --ready\"; sleep";
    lab.ssh(&format!("systemd-run -q --unit=sit -p Type=notify -p NotifyAccess=all perl -e '{sit}'"));
    let refused = ours.exits(2, &lab.adopting("machine")).stderr;
    assert!(refused.contains("port 717 is already in use"), "{refused}");
    lab.ssh("systemctl stop sit");
    let refused = ours.exits(3, &lab.adopting("nobody@machine")).stderr;
    assert!(
        refused.contains("ssh to nobody@machine failed: ") && refused.contains("Permission denied"),
        "{refused}"
    );
    lab.ssh("! test -e /var/lib/magpie");

    // The proxy command fails three times before it connects.
    assert_eq!(ours.ok(&lab.adopting("machine")), "quick-1\n");
    let tries =
        fs::read_to_string(ours.directory().join("dial-late.count")).expect("counted").lines().count();
    assert!(tries > 3, "{tries}");
    lab.ssh("! test -e /var/lib/magpie/enrol.json && ! ls -d /var/lib/magpie/adopt.* 2>/dev/null");
    let refused = ours.exits(2, &lab.adopting("machine")).stderr;
    assert!(refused.contains("is already the host quick-1"), "{refused}");

    // From now on, ssh is not needed.
    ours.ok(&["run", "quick-1", "--", "systemctl", "stop", "ssh.service", "ssh.socket"]);
    let closed = Command::new("ssh").args(["-F", lab.config(), "machine", "true"]).output().expect("runs");
    assert_eq!(closed.status.code(), Some(255));
    assert!(ours.ok(&["status", "quick-1"]).contains("quick-1"));
    assert!(ours.ok(&["apply", "quick-1"]).contains("changed"));
    assert_eq!(ours.ok(&["run", "quick-1", "--", "cat", "/etc/magpie-test"]), "role quick\n");
    let host = ours.json(&["hosts"]).remove(0);
    assert_eq!((&host["provider"], &host["lease_until"]), (&"ssh".into(), &0.into()), "{host}");
    let refused = ours.exits(2, &["stop", "quick-1"]).stderr;
    assert!(refused.contains("hint: `ctl run quick-1 -- systemctl poweroff`"), "{refused}");
    ours.exits(2, &["start", "quick-1"]);

    ours.ok(&["run", "quick-1", "--", "systemctl", "start", "ssh"]);
    ours.ok(&["destroy", "--yes", "quick-1"]);
    assert_eq!(ours.json(&["hosts"]).len(), 0);
    lab.no_agent_is_left();
    assert_eq!(lab.ssh("cat /etc/magpie-test"), "role quick\n", "the machine itself goes on");
}

#[test]
fn root_comes_by_sudo_and_what_does_not_answer_can_be_forgotten() {
    let lab = Lab::new();
    let ours = &lab.ours;
    lab.strip();
    ours.ok(&lab.adopting("free@machine"));
    ours.ok(&["status", "quick-1"]);
    lab.ssh("systemctl stop magpie-agent");
    let refused = ours.exits(3, &["destroy", "--yes", "quick-1"]).stderr;
    for part in
        ["quick-1 does not answer on port 717", "the proxy command ended", "Connection refused", "--forget"]
    {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert_eq!(ours.json(&["hosts"]).len(), 1);
    ours.ok(&["destroy", "--yes", "--forget", "quick-1"]);
    assert_eq!(ours.json(&["hosts"]).len(), 0);
    lab.ssh("test -e /usr/lib/magpie/agent && rm -r /var/lib/magpie/state");

    // If sudo needs a password, it gets a terminal for the prompt.
    let refused = ours.exits(3, &lab.adopting("asked@machine")).stderr;
    assert!(refused.contains("the command on asked@machine failed"), "{refused}");
    assert_eq!(lab.ssh("ls -d /tmp/tmp.* 2>/dev/null || true"), "", "nothing secret is left behind");
    adopt_with_password(&lab);
    ours.ok(&["status", "quick-1"]);
    assert_eq!(lab.ssh("ls -d /tmp/tmp.* 2>/dev/null || true"), "");
    ours.ok(&["destroy", "--yes", "quick-1"]);
    lab.no_agent_is_left();
}

/// Adopts on a terminal, typing the password at the prompt.
fn adopt_with_password(lab: &Lab) {
    let adopt = lab.ours.command(&lab.adopting("asked@machine"));
    let words: Vec<_> = [adopt.get_program()].into_iter().chain(adopt.get_args()).collect();
    let line = words.iter().map(|word| word.to_str().expect("UTF-8")).collect::<Vec<_>>().join(" ");
    let mut session = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(lab.ours.directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script(1) starts");
    let (mut keyboard, mut screen) =
        (session.stdin.take().expect("piped"), session.stdout.take().expect("piped"));
    let (mut seen, mut typed, mut buffer) = (String::new(), false, [0; 1024]);
    while let Ok(count @ 1..) = screen.read(&mut buffer) {
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if !typed && seen.contains("password for asked") {
            keyboard.write_all(b"secret\n").expect("typed");
            typed = true;
        }
    }
    assert!(session.wait().expect("ends").success() && typed, "{seen}");
}
