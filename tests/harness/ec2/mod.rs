//! A small EC2 on this machine: moto as the API, a real host behind every instance, and faults on demand.
//!
//! `tests/ec2/cloud` implements the API. The controllers under test use it like EC2: they get an endpoint,
//! credentials and a region from the environment, and a proxy command to the hosts' addresses.

mod control;
pub mod hosts;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use controller::provider::ImageId;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{binary, repository, target_dir};

/// Region of the lab's images.
pub const REGION: &str = "eu-central-1";

/// The lab. Dropping it ends its processes and hosts.
#[derive(Debug)]
pub struct Ec2Lab {
    directory: TempDir,
    cloud: Child,
    port: u16,
}

/// An instance as the API knows it internally, including state that Describe calls do not show yet.
#[derive(Clone, Debug, Deserialize)]
pub struct Instance {
    /// `i-…`
    pub id: String,
    /// `pending`, `running`, …
    pub state: String,
    /// Local host behind the instance.
    pub host: Option<String>,
    /// Permanent address in the hosts' network.
    pub private: Option<String>,
    /// Public address until the next stop.
    pub public: Option<String>,
    /// Instance type.
    #[serde(rename = "type")]
    pub class: String,
    /// AMI.
    pub image: String,
    /// ClientToken.
    pub token: Option<String>,
    /// All tags.
    pub tags: std::collections::BTreeMap<String, String>,
}

/// One call of the API.
#[derive(Clone, Debug, Deserialize)]
pub struct Call {
    /// Such as `RunInstances`.
    pub action: String,
    /// Pid of the controller that made it.
    pub caller: Option<u32>,
    /// Parameters that distinguish calls.
    pub parameters: std::collections::BTreeMap<String, String>,
    /// Seconds since the Unix epoch.
    pub at: f64,
    /// `ok`, or the error code; `None` until the call is answered.
    pub outcome: Option<String>,
}

impl Ec2Lab {
    /// Starts the lab, with no image yet.
    pub fn new() -> Self {
        let directory = TempDir::with_prefix("magpie-ec2-").expect("a temporary directory");
        // Hosts run with other user ids.
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))
            .expect("ours");
        let state = directory.path().join("state");
        drop(hosts::open(&state));
        let log = fs::File::create(directory.path().join("log")).expect("made");
        let mut cloud = Command::new(python())
            .arg(repository("tests/ec2/cloud"))
            .arg("--lab-host")
            .arg(binary("ec2-lab-host"))
            .arg("--state")
            .arg(&state)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("python starts");
        let mut first = String::new();
        let said = BufReader::new(cloud.stdout.as_mut().expect("piped")).read_line(&mut first);
        let port = said.ok().and_then(|_| first.trim().parse().ok());
        let log = || fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        let port = port.unwrap_or_else(|| panic!("the lab does not start:\n{}", log()));
        Self { directory, cloud, port }
    }

    /// State directory of the lab; tests may put their files next to it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The state directory of the hosts.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// URL of the API.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Log of moto and its parts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Environment of a controller: endpoint, credentials and region.
    pub fn environment(&self) -> [(&'static str, String); 6] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_CONFIG_FILE", "/nonexistent".to_owned()),
        ]
    }

    /// Proxy command to the instances' addresses, for `[connect]`.
    pub fn proxy(&self) -> String {
        format!("{} --state {} dial %h %p", binary("ec2-lab-host").display(), self.state().display())
    }

    /// Creates an AMI from an image of the local provider; returns the AMI's id.
    pub fn register(&self, image: &ImageId, name: &str, tags: &Value) -> String {
        let sent = json!({ "region": REGION, "image": image.0, "name": name, "tags": tags });
        self.ask("POST", "images", &sent).as_str().expect("an id").to_owned()
    }

    /// An AMI with the agent.
    pub fn agent_image(&self, tags: &Value) -> String {
        self.register(&hosts::agent_image(&self.state()), "agent", tags)
    }

    /// An AMI of a plain distribution with cloud-init.
    pub fn base_image(&self, tags: &Value) -> String {
        self.register(&hosts::base_image(&self.state()), "base", tags)
    }

    /// Puts a file where the hosts can fetch it, and returns its URL.
    pub fn publish(&self, file: &Path) -> String {
        let name = file.file_name().expect("a file").to_string_lossy();
        let web = self.state().join("web");
        fs::create_dir_all(&web).expect("made");
        fs::copy(file, web.join(&*name)).expect("copied");
        format!("http://10.213.0.1/{name}")
    }

    /// Sets the faults from now on; see `tests/ec2/cloud/faults.py`. An empty list means no faults.
    pub fn faults(&self, rules: &Value) {
        self.ask("PUT", "faults", rules);
    }

    /// Changes settings, such as delays in seconds; see `tests/ec2/cloud/lab.py`.
    pub fn settings(&self, settings: &Value) {
        self.ask("PUT", "settings", settings);
    }

    /// All calls since the lab started, or since they were last forgotten.
    pub fn calls(&self) -> Vec<Call> {
        serde_json::from_value(self.ask("GET", "calls", &Value::Null)).expect("calls")
    }

    /// Forgets all calls so far.
    pub fn forget_calls(&self) {
        self.ask("PUT", "calls", &Value::Null);
    }

    /// All instances, including terminated ones.
    pub fn instances(&self) -> Vec<Instance> {
        serde_json::from_value(self.ask("GET", "instances", &Value::Null)).expect("instances")
    }

    /// Instances that are neither terminated nor shutting down.
    pub fn alive(&self) -> Vec<Instance> {
        let mut all = self.instances();
        all.retain(|instance| !["shutting-down", "terminated"].contains(&instance.state.as_str()));
        all
    }

    /// Console output of the local host behind an instance.
    pub fn console(&self, host: &str) -> String {
        let log = fs::read(self.state().join("hosts").join(host).join("console.log"));
        String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
    }

    /// Waits until another process has finished its work on an instance.
    #[track_caller]
    pub fn wait_for(&self, id: &str, state: &str, patience: Duration) -> Instance {
        let deadline = Instant::now() + patience;
        loop {
            let found = self.instances().into_iter().find(|instance| instance.id == id).expect("it is there");
            if found.state == state {
                return found;
            }
            assert!(Instant::now() < deadline, "{id} is {}, not {state}\n{}", found.state, self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    fn ask(&self, method: &str, name: &str, sent: &Value) -> Value {
        control::ask(self.port, method, name, sent)
    }
}

impl Default for Ec2Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Ec2Lab {
    fn drop(&mut self) {
        // The lab ends when its input closes. Then all hosts that it was starting are known and can be destroyed.
        drop(self.cloud.stdin.take());
        let mut rest = String::new();
        if let Some(stdout) = self.cloud.stdout.as_mut() {
            drop(stdout.read_to_string(&mut rest));
        }
        drop(self.cloud.wait());
        hosts::destroy_all(&self.state());
        if std::thread::panicking() {
            eprintln!("{rest}{}", self.log());
        }
    }
}

/// Python with moto, which `make prerequisites-test` puts into the target directory.
pub fn python() -> PathBuf {
    let target = target_dir();
    let python = target.parent().expect("target is above the profile").join("moto/bin/python");
    assert!(python.is_file(), "{} is not there: run `make prerequisites-test` first", python.display());
    python
}
