//! Puppet's command line, directories and exit codes. No other module knows them.
//!
//! Every path that depends on the distribution is passed explicitly, so that all packages (Puppet 7 and 8, OpenVox,
//! Debian's) behave alike and the host's own Puppet configuration has no effect.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use proto::{
    bundle::environment::{self, Environment},
    pb,
};

use super::{Error, origin::Origin, process::End};

/// Search path for programs, both for the agent and for Puppet.
pub const PATH: &str = "/opt/puppetlabs/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Terminus for the report: JSON instead of tagged YAML, in Puppet since 6.20.
const ROUTES: &str = "---\napply:\n  report:\n    cache: json\n";

/// Digits of a digest that identify a bundle, as in `ctl`'s output.
const SHORT_DIGEST: usize = 12;

/// The directories of one apply.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The unpacked bundle.
    pub tree: PathBuf,
    /// Directory kept between runs: client state, library cache, last schedule times.
    pub lasting: PathBuf,
    /// Directory of this run.
    pub own: PathBuf,
}

impl Layout {
    /// Path of Puppet's log, one JSON object on each line.
    pub fn log(&self) -> PathBuf {
        self.own.join("log.jsonl")
    }

    /// Path of Puppet's report.
    pub fn report(&self) -> PathBuf {
        self.own.join("report.json")
    }

    /// The directories under which Puppet may see the bundle's files.
    pub fn origin(&self, apply: &pb::Apply) -> Origin {
        Origin::new([self.environment(apply), self.tree.clone()].map(|path| path.display().to_string()))
    }

    fn environment(&self, apply: &pb::Apply) -> PathBuf {
        self.own.join("environments").join(&apply.environment)
    }
}

/// Finds Puppet: `$MAGPIE_PUPPET`, then the vendors' directory, then the search path.
pub fn find(chosen: Option<OsString>) -> Option<PathBuf> {
    let chosen = chosen.map(PathBuf::from);
    let candidates =
        chosen.into_iter().chain(PATH.split(':').map(|directory| Path::new(directory).join("puppet")));
    candidates.into_iter().find(|candidate| candidate.is_file())
}

/// Writes Puppet's input: the bundle as an environment, role and usable memory as facts, the report's route.
///
/// # Errors
/// If the disk fails.
pub fn prepare(layout: &Layout, apply: &pb::Apply, memory_bytes: Option<u64>) -> Result<(), Error> {
    for directory in ["conf", "environments", "facts.d", "log", "public", "run"] {
        make_directory(&layout.own.join(directory))?;
    }
    for directory in ["ssl", "state", "var"] {
        make_directory(&layout.lasting.join(directory))?;
    }
    let link = layout.environment(apply);
    symlink(&layout.tree, &link).map_err(Error::file("cannot make", &link))?;
    write(&layout.own.join("routes.yaml"), ROUTES)?;
    let facts =
        serde_json::json!({ "role": apply.role, "magpie": { "memory_bytes": memory_bytes } }).to_string();
    write(&layout.own.join("facts.d").join("magpie.json"), &facts)
}

/// The complete command of one apply.
pub fn command(puppet: &Path, layout: &Layout, apply: &pb::Apply) -> Command {
    let mut command = Command::new(puppet);
    command.args(arguments(layout, apply));
    command
}

/// Puppet's arguments. The log goes only to a file: any output on stdout and stderr is unexpected.
fn arguments(layout: &Layout, apply: &pb::Apply) -> Vec<OsString> {
    let flags = [
        "apply",
        "--detailed-exitcodes",
        "--no-splay",
        "--color=false",
        "--verbose",
        "--evaltrace",
        "--show_diff",
        "--no-exclude_unchanged_resources",
        "--reports",
        "none",
        "--environment",
        &apply.environment,
    ];
    let own = |name: &str| layout.own.join(name);
    let places = [
        ("--logdest", layout.log()),
        ("--route_file", own("routes.yaml")),
        ("--lastrunreport", layout.report()),
        ("--lastrunfile", own("summary.yaml")),
        ("--pluginfactdest", own("facts.d")),
        ("--environmentpath", own("environments")),
        ("--confdir", own("conf")),
        ("--codedir", own("conf").join("code")),
        ("--logdir", own("log")),
        ("--publicdir", own("public")),
        ("--rundir", own("run")),
        ("--vardir", layout.lasting.join("var")),
        ("--statedir", layout.lasting.join("state")),
        ("--ssldir", layout.lasting.join("ssl")),
    ];
    let mut arguments: Vec<OsString> = flags.map(OsString::from).into();
    arguments.extend(places.into_iter().flat_map(|(flag, path)| [flag.into(), path.into_os_string()]));
    if apply.noop {
        arguments.push("--noop".into());
    }
    if !apply.tags.is_empty() {
        arguments.extend(["--tags".into(), apply.tags.join(",").into()]);
    }
    // A command from the bundle would call git, which hosts do not have; the bundle's name serves the same purpose.
    let version = apply.bundle.get(..SHORT_DIGEST).unwrap_or(&apply.bundle);
    arguments.extend(["--config_version".into(), format!("/bin/echo {version}").into()]);
    arguments.push(manifest(layout, apply).into_os_string());
    arguments
}

/// The manifest that Puppet would read by default; `puppet apply` needs it as an argument.
fn manifest(layout: &Layout, apply: &pb::Apply) -> PathBuf {
    let text = fs::read(layout.tree.join(environment::FILE)).unwrap_or_default();
    let settings = Environment::parse(&String::from_utf8_lossy(&text));
    // The controller refuses a path that leads out of the bundle; here, Puppet itself reports the error.
    let path = settings.manifest(&apply.environment);
    layout.environment(apply).join(path.unwrap_or_else(str::to_owned))
}

/// The state for an exit code of `puppet apply --detailed-exitcodes`: 2 and 4 are bits, 1 means an early failure.
pub fn state(exit_code: i32) -> pb::RunState {
    match exit_code {
        0 => pb::RunState::Succeeded,
        2 => pb::RunState::Changed,
        _ => pb::RunState::Failed,
    }
}

/// Why an apply without a report failed: the resource at which Puppet was killed, or the last error of its log.
pub fn failure(end: End, at: Option<&str>, error: Option<&pb::Log>) -> String {
    if matches!(end, End::Killed(_)) {
        let at = at.map(|resource| format!(" while it applied {resource}")).unwrap_or_default();
        return format!("Puppet {end}{at}");
    }
    let Some(error) = error else { return format!("Puppet {end} without an error message") };
    let place =
        if error.file.is_empty() { String::new() } else { format!(" ({}:{})", error.file, error.line) };
    format!("{}{place}{}", error.message, legacy_fact_hint(&error.message).unwrap_or_default())
}

/// Puppet 8 no longer sets the legacy facts. The same code works on 7, so the error alone is confusing.
fn legacy_fact_hint(message: &str) -> Option<String> {
    const RENAMED: [(&str, &str); 12] = [
        ("architecture", "$facts['os']['architecture']"),
        ("domain", "$facts['networking']['domain']"),
        ("fqdn", "$facts['networking']['fqdn']"),
        ("hostname", "$facts['networking']['hostname']"),
        ("ipaddress", "$facts['networking']['ip']"),
        ("lsbdistcodename", "$facts['os']['distro']['codename']"),
        ("memorysize", "$facts['memory']['system']['total']"),
        ("operatingsystem", "$facts['os']['name']"),
        ("operatingsystemmajrelease", "$facts['os']['release']['major']"),
        ("operatingsystemrelease", "$facts['os']['release']['full']"),
        ("osfamily", "$facts['os']['family']"),
        ("processorcount", "$facts['processors']['count']"),
    ];
    let name = message.split_once("Unknown variable: '")?.1.split('\'').next()?.trim_start_matches("::");
    let (_, modern) = RENAMED.iter().find(|(old, _)| *old == name)?;
    Some(format!("; ${name} is a legacy fact that Puppet 8 no longer sets, use {modern}"))
}

/// The state of the host's own Puppet agent, which is independent of Magpie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnAgent {
    /// The agent is applying a catalog.
    Running {
        /// Process id of the agent.
        pid: u32,
    },
    /// An administrator has disabled the agent.
    Disabled {
        /// The administrator's reason.
        message: String,
    },
}

/// Checks for a Puppet agent's locks, in the state directories of all packages below `root`.
///
/// `puppet apply` neither takes nor honours these locks.
pub fn own_agent(root: &Path) -> Option<OwnAgent> {
    let places = ["opt/puppetlabs/puppet/cache/state", "var/cache/puppet/state", "var/lib/puppet/state"];
    places.iter().find_map(|place| own_agent_in(&root.join(place), root))
}

fn own_agent_in(state: &Path, root: &Path) -> Option<OwnAgent> {
    let pid = fs::read_to_string(state.join("agent_catalog_run.lock")).ok();
    let pid: Option<u32> = pid.and_then(|text| text.trim().parse().ok());
    if let Some(pid) = pid.filter(|pid| root.join("proc").join(pid.to_string()).exists()) {
        return Some(OwnAgent::Running { pid });
    }
    let text = fs::read_to_string(state.join("agent_disabled.lock")).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let message = value["disabled_message"].as_str().unwrap_or("no reason given").to_owned();
    Some(OwnAgent::Disabled { message })
}

fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::file("cannot make", path))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source: io::Error| Error::file("cannot write", path)(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(root: &Path) -> Layout {
        Layout { tree: root.join("tree"), lasting: root.join("lasting"), own: root.join("own") }
    }

    fn apply() -> pb::Apply {
        pb::Apply { role: "db".into(), environment: "production".into(), ..pb::Apply::default() }
    }

    #[test]
    fn puppet_finds_the_bundle_and_the_role() {
        let root = tempfile::tempdir().unwrap();
        let layout = layout(root.path());
        fs::create_dir_all(layout.tree.join("manifests")).unwrap();
        fs::write(layout.tree.join("main.pp"), "").unwrap();
        prepare(&layout, &apply(), Some(1 << 30)).unwrap();
        let manifest = || PathBuf::from(arguments(&layout, &apply()).pop().unwrap());
        let environment = layout.own.join("environments/production");
        assert_eq!(manifest(), environment.join("manifests"));
        assert!(manifest().is_dir());
        fs::write(layout.tree.join("environment.conf"), "manifest = $environmentpath/$environment/main.pp\n")
            .unwrap();
        assert_eq!(manifest(), environment.join("main.pp"));
        assert!(manifest().is_file());
        let facts = fs::read_to_string(layout.own.join("facts.d/magpie.json")).unwrap();
        assert_eq!(facts, r#"{"magpie":{"memory_bytes":1073741824},"role":"db"}"#);
    }

    #[test]
    fn noop_and_tags_are_passed_on() {
        let apply = pb::Apply { noop: true, tags: vec!["a".into(), "b".into()], ..apply() };
        let arguments = arguments(&layout(Path::new("/r")), &apply);
        let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
        assert!(has("--noop") && has("--tags") && has("a,b"));
        assert!(!self::arguments(&layout(Path::new("/r")), &self::apply()).contains(&"--noop".into()));
    }

    #[test]
    fn the_version_of_a_catalog_is_the_bundle() {
        let apply = pb::Apply { bundle: "0123456789abcdef".into(), ..apply() };
        let arguments = arguments(&layout(Path::new("/r")), &apply);
        let at = arguments.iter().position(|argument| argument == "--config_version").unwrap();
        assert_eq!(arguments[at + 1], "/bin/echo 0123456789ab");
    }

    #[test]
    fn only_0_and_2_are_good() {
        let good: Vec<i32> = (0..=255).filter(|&code| state(code) != pb::RunState::Failed).collect();
        assert_eq!(good, [0, 2]);
    }

    #[test]
    fn an_unknown_legacy_fact_gets_a_hint() {
        let log = |message: &str| pb::Log {
            message: message.into(),
            file: "a.pp".into(),
            line: 3,
            ..pb::Log::default()
        };
        let sentence =
            failure(End::Exited(1), None, Some(&log("Evaluation Error: Unknown variable: '::osfamily'.")));
        assert!(sentence.contains("(a.pp:3)") && sentence.contains("$facts['os']['family']"), "{sentence}");
        assert!(!failure(End::Exited(1), None, Some(&log("Unknown variable: 'mine'"))).contains("legacy"));
    }

    #[test]
    fn a_killed_puppet_was_at_a_resource() {
        let killed = End::Killed(nix::sys::signal::Signal::SIGKILL);
        let sentence = failure(killed, Some("Exec[flood]"), None);
        assert_eq!(sentence, "Puppet was killed by signal 9 (SIGKILL) while it applied Exec[flood]");
        assert_eq!(failure(killed, None, None), "Puppet was killed by signal 9 (SIGKILL)");
    }

    #[test]
    fn a_running_agent_is_seen_and_a_stale_lock_is_not() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("var/cache/puppet/state");
        fs::create_dir_all(&state).unwrap();
        assert_eq!(own_agent(root.path()), None);
        fs::write(state.join("agent_catalog_run.lock"), "42").unwrap();
        assert_eq!(own_agent(root.path()), None);
        fs::create_dir_all(root.path().join("proc/42")).unwrap();
        assert_eq!(own_agent(root.path()), Some(OwnAgent::Running { pid: 42 }));
        fs::remove_file(state.join("agent_catalog_run.lock")).unwrap();
        fs::write(state.join("agent_disabled.lock"), r#"{"disabled_message":"upgrade"}"#).unwrap();
        assert_eq!(own_agent(root.path()), Some(OwnAgent::Disabled { message: "upgrade".into() }));
    }
}
