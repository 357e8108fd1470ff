//! Packages of the built binaries.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use tempfile::TempDir;
use tests::{repository, target_dir};

/// The four packages of one version.
pub(crate) struct Packed {
    directory: TempDir,
}

/// Properties of a file that must match: mode and content.
type Files = BTreeMap<String, (u32, Vec<u8>)>;

impl Packed {
    /// Packs the binaries of `cargo build`, as `make package` packs a release.
    pub(crate) fn build(version: Option<&str>) -> Self {
        let directory = TempDir::with_prefix("magpie-packages-").expect("a temporary directory");
        let mut command = Command::new("sh");
        command
            .arg(repository("deploy/packages/build.sh"))
            .arg("--fast")
            .arg(target_dir())
            .arg(directory.path());
        command.args(version);
        output(&mut command);
        Self { directory }
    }

    fn find(&self, package: &str, kind: &str) -> PathBuf {
        let entries = fs::read_dir(self.directory.path()).expect("readable");
        let mut paths = entries.map(|entry| entry.expect("readable").path());
        let found = paths.find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(package) && name.ends_with(kind)
        });
        found.unwrap_or_else(|| panic!("no {kind} of {package} was made"))
    }

    pub(crate) fn deb_bytes(&self) -> Vec<u8> {
        fs::read(self.find("magpie-agent", ".deb")).expect("read")
    }

    fn unpacked_deb(&self, package: &str) -> TempDir {
        let root = TempDir::with_prefix("magpie-deb-").expect("a temporary directory");
        output(Command::new("dpkg-deb").arg("--extract").arg(self.find(package, ".deb")).arg(root.path()));
        root
    }

    /// Files that rpm itself installs in an empty root. Debian's rpm needs an option to allow that.
    fn unpacked_rpm(&self, package: &str) -> TempDir {
        let root = TempDir::with_prefix("magpie-rpm-").expect("a temporary directory");
        let mut command = Command::new("rpm");
        command.arg("--root").arg(root.path()).args(["--install", "--nodeps", "--noscripts"]);
        if fs::exists("/etc/debian_version").expect("known") {
            command.arg("--force-debian");
        }
        output(command.arg(self.find(package, ".rpm")));
        root
    }

    /// A scriptlet of the agent's .rpm, by its tag.
    pub(crate) fn scriptlet(&self, tag: &str) -> Vec<u8> {
        let format = format!("%{{{tag}}}");
        let package = self.find("magpie-agent", ".rpm");
        output(Command::new("rpm").args(["--query", "--queryformat", &format, "--package"]).arg(package))
    }

    /// The agent's .rpm, unpacked by rpm, as a tar archive.
    pub(crate) fn rpm_tree(&self) -> Vec<u8> {
        let root = self.unpacked_rpm("magpie-agent");
        output(Command::new("tar").args(["--create", "--directory"]).arg(root.path()).arg("usr"))
    }

    pub(crate) fn deb_files(&self, package: &str) -> Files {
        files(&self.unpacked_deb(package))
    }

    pub(crate) fn rpm_files(&self, package: &str) -> Files {
        files(&self.unpacked_rpm(package))
    }

    /// The newest glibc symbol version that a program needs.
    pub(crate) fn newest_glibc(&self, program: &str) -> (u32, u32) {
        let root = self.unpacked_deb(if program.ends_with("ctl") { "magpie-ctl" } else { "magpie-agent" });
        let text = output(Command::new("objdump").arg("--dynamic-syms").arg(root.path().join(program)));
        let text = String::from_utf8(text).expect("text");
        let versions = text.split("GLIBC_").skip(1).filter_map(|rest| {
            let mut numbers = rest.split(|byte: char| !byte.is_ascii_digit()).map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        });
        versions.max().expect("a dynamic program")
    }
}

/// All files below `usr` except licences; zsh completions get the same path for all distributions.
fn files(root: &TempDir) -> Files {
    let usr = root.path().join("usr");
    let listed = output(Command::new("find").arg(&usr).args(["-type", "f", "-printf", "%P %m\n"]));
    let listed = String::from_utf8(listed).expect("text");
    let entries = listed.lines().map(|line| line.rsplit_once(' ').expect("path and mode"));
    let same =
        entries.filter(|(path, _)| !path.starts_with("share/licenses/") && !path.ends_with("/copyright"));
    same.map(|(path, mode)| {
        let content = fs::read(usr.join(path)).expect("read");
        let path = path.replace("zsh/vendor-completions", "zsh/site-functions");
        (format!("usr/{path}"), (u32::from_str_radix(mode, 8).expect("octal"), content))
    })
    .collect()
}

fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
