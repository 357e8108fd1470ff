//! A small EC2 on this machine: moto as the API, a real host behind every instance, and faults on demand.
//!
//! What is behind the API is in `tests/ec2/cloud`. The controllers under test use it like EC2: they get an
//! endpoint, credentials and a region from the environment, and a proxy command to the hosts' addresses.

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

/// The region that the lab's images are in.
pub const REGION: &str = "eu-central-1";

/// The lab. Dropping it ends its processes, and its hosts.
#[derive(Debug)]
pub struct Ec2Lab {
    directory: TempDir,
    cloud: Child,
    port: u16,
}

/// An instance as the API's owner knows it: at once, and also what no Describe call tells yet.
#[derive(Clone, Debug, Deserialize)]
pub struct Instance {
    /// `i-…`
    pub id: String,
    /// `pending`, `running`, …
    pub state: String,
    /// The local host behind it.
    pub host: Option<String>,
    /// Address in the hosts' network; it stays.
    pub private: Option<String>,
    /// Address that lasts until the next stop.
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
    /// Those parameters that tell one call from another.
    pub parameters: std::collections::BTreeMap<String, String>,
    /// Seconds since the Unix epoch.
    pub at: f64,
    /// `ok`, or the code of the error; none while nobody has answered.
    pub outcome: Option<String>,
}

impl Ec2Lab {
    /// Starts the lab, with no image yet.
    pub fn new() -> Self {
        let directory = TempDir::with_prefix("magpie-ec2-").expect("a temporary directory");
        // Hosts run under other ids.
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

    /// The directory of its state; tests keep what is theirs beside it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The state directory of the hosts.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Where the API is.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What moto and its parts had to say.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Environment of a controller: where EC2 is, who calls, and where.
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

    /// The proxy command that leads to the addresses of instances, for `[connect]`.
    pub fn proxy(&self) -> String {
        format!("{} --state {} dial %h %p", binary("ec2-lab-host").display(), self.state().display())
    }

    /// Makes an AMI of an image of the local provider, and returns its id.
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

    /// Faults from now on; see `tests/ec2/cloud/faults.py`. None if the list is empty.
    pub fn faults(&self, rules: &Value) {
        self.ask("PUT", "faults", rules);
    }

    /// Changes settings: seconds that things take, see `tests/ec2/cloud/lab.py`.
    pub fn settings(&self, settings: &Value) {
        self.ask("PUT", "settings", settings);
    }

    /// All calls since the lab began, or since they were forgotten.
    pub fn calls(&self) -> Vec<Call> {
        serde_json::from_value(self.ask("GET", "calls", &Value::Null)).expect("calls")
    }

    /// Forgets the calls made until now.
    pub fn forget_calls(&self) {
        self.ask("PUT", "calls", &Value::Null);
    }

    /// All instances there have been.
    pub fn instances(&self) -> Vec<Instance> {
        serde_json::from_value(self.ask("GET", "instances", &Value::Null)).expect("instances")
    }

    /// Those that are not terminated, nor about to be.
    pub fn alive(&self) -> Vec<Instance> {
        let mut all = self.instances();
        all.retain(|instance| !["shutting-down", "terminated"].contains(&instance.state.as_str()));
        all
    }

    /// All that a local host behind an instance wrote to its console.
    pub fn console(&self, host: &str) -> String {
        let log = fs::read(self.state().join("hosts").join(host).join("console.log"));
        String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
    }

    /// Waits for what somebody else is doing to an instance.
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
        // It ends with its input; whatever it was about to start is then known, and can be ended.
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

/// The Python that has moto, where `make prerequisites-test` puts it: beside what cargo builds.
pub fn python() -> PathBuf {
    let target = target_dir();
    let python = target.parent().expect("target is above the profile").join("moto/bin/python");
    assert!(python.is_file(), "{} is not there: run `make prerequisites-test` first", python.display());
    python
}
