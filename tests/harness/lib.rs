//! A fleet in a temporary directory, driven through the built `ctl` on real hosts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

pub mod ec2;
mod terminal;
pub mod vm;

pub use terminal::Terminal;

use ec2::Ec2Lab;

/// A fleet with its own CA directory, its own local cloud, and a shared store of images.
///
/// Dropping it destroys its hosts.
pub struct Fleet {
    directory: TempDir,
    /// Environment for EC2, if the hosts are instances of a lab, which ends them.
    ec2: Option<[(&'static str, String); 6]>,
}

/// Result of a finished `ctl`.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; -1 if killed by a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Fleet {
    /// A fleet with the tree at `puppet` as its bundle, and a role section for each of `roles`.
    pub fn new(puppet: &Path, roles: &[&str]) -> Self {
        let fleet = Self::empty(None);
        let state = fleet.directory.path().join("cloud");
        fs::create_dir_all(&state).expect("made");
        // Images contain no identity and are named by their content: all fleets of a test run share them.
        for kind in ["bases", "images"] {
            let shared = target_dir().join("e2e").join(kind);
            fs::create_dir_all(&shared).expect("made");
            std::os::unix::fs::symlink(&shared, state.join(kind)).expect("linked");
        }
        let mut config = format!(
            "[fleet]\nname = \"test\"\n[bundle]\npath = {puppet:?}\n[local]\nstate = {state:?}\nagent = {:?}\n",
            binary("agent")
        );
        for role in roles {
            config.push_str(&format!("[roles.{role}]\nmemory = \"1G\"\n"));
        }
        fs::write(fleet.directory.path().join("magpie.toml"), config).expect("written");
        let turn = fs::File::create(target_dir().join("e2e/lock")).expect("a lock file");
        turn.lock().expect("locked: one bakes, the others find it done");
        fleet.ok(&["bake"]);
        fleet
    }

    /// A fleet on a lab's EC2, with these sections for its roles.
    pub fn on(lab: &Ec2Lab, puppet: &Path, roles: &str) -> Self {
        let fleet = Self::empty(Some(lab.environment()));
        // The local provider only checks bundles: it has no hosts.
        let config = format!(
            "[fleet]\nname = \"test\"\nprovider = \"ec2\"\n[bundle]\npath = {puppet:?}\n[connect]\nproxy = {:?}\n\
             [local]\nstate = {:?}\nagent = {:?}\n[ec2]\naddress = \"public\"\n{roles}",
            lab.proxy(),
            fleet.cloud(),
            binary("agent")
        );
        fs::write(fleet.directory.path().join("magpie.toml"), config).expect("written");
        fleet
    }

    fn empty(ec2: Option<[(&'static str, String); 6]>) -> Self {
        let fleet = Self { directory: TempDir::with_prefix("magpie-").expect("a temporary directory"), ec2 };
        fleet.ok(&["init", "--name", "test"]);
        fleet
    }

    /// The directory with `magpie.toml`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The state directory of the fleet's local cloud.
    pub fn cloud(&self) -> PathBuf {
        self.directory.path().join("cloud")
    }

    /// A `ctl` command in the fleet's directory, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = match &self.ec2 {
            None => Command::new(binary("ctl")),
            // EC2 sees the pid of the controller.
            Some(environment) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", "AWS_SDK_UA_APP_ID=$$ exec \"$0\" \"$@\""]).arg(binary("ctl"));
                shell.envs(environment.iter().cloned());
                shell
            }
        };
        command
            .args(args)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .env_remove("MAGPIE_CONFIG");
        command
    }

    /// Runs `ctl` until it ends.
    pub fn ctl(&self, args: &[&str]) -> Outcome {
        Outcome::from(self.command(args).output().expect("ctl starts"))
    }

    /// Starts `ctl` with its output captured.
    pub fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ctl starts")
    }

    /// Runs `ctl`, expects exit code 0, and returns standard output.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.exits(0, args).stdout
    }

    /// Runs `ctl` and expects this exit code.
    #[track_caller]
    pub fn exits(&self, code: i32, args: &[&str]) -> Outcome {
        let outcome = self.ctl(args);
        assert_eq!(outcome.code, code, "ctl {args:?}\n{}\n{}", outcome.stdout, outcome.stderr);
        outcome
    }

    /// Runs `ctl --output json` and parses its lines.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Vec<serde_json::Value> {
        let args: Vec<&str> = args.iter().copied().chain(["--output", "json"]).collect();
        parse_lines(&self.ok(&args))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if self.ec2.is_some() {
            return;
        }
        let listed = self.ctl(&["hosts", "--output", "json"]);
        let names: Vec<String> = parse_lines(&listed.stdout)
            .iter()
            .filter_map(|host| Some(host["name"].as_str()?.to_owned()))
            .collect();
        if !names.is_empty() {
            let args: Vec<&str> =
                ["destroy", "--yes", "--force"].into_iter().chain(names.iter().map(String::as_str)).collect();
            self.ctl(&args);
        }
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Parses NDJSON.
#[track_caller]
pub fn parse_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

/// A file of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(path)
        .canonicalize()
        .expect("the file is in the repository")
}

/// The directory of built binaries: above the running program, which is in `target/<profile>/deps` (a test) or
/// `target/<profile>` (a benchmark).
#[track_caller]
pub fn target_dir() -> PathBuf {
    let program = std::env::current_exe().expect("the path of this program");
    let holder = program.ancestors().skip(1).find(|directory| directory.join("ctl").is_file());
    holder
        .unwrap_or_else(|| panic!("no ctl is built for {}: run `make build` first", program.display()))
        .to_owned()
}

/// Path of a built binary of the workspace.
#[track_caller]
pub fn binary(name: &str) -> PathBuf {
    let path = target_dir().join(name);
    assert!(path.is_file(), "{} is not built: run `make build` first", path.display());
    path
}
