//! A base: a root file system of the machine's own distribution with the packages of every host, made by mmdebstrap.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::Stdio,
};

use super::sources::{Distribution, Source};
use crate::{
    error::{Error, Result},
    provider::local::{
        failure::Doing,
        namespace::{tool::MMDEBSTRAP, tree::unpack_into, userns::IdMap},
    },
};

/// Removes files that packages may have created and that must differ between hosts.
const FORGET: &str = r#"rm -f "$1"/etc/hostname "$1"/etc/machine-id "$1"/var/lib/dbus/machine-id "$1"/var/lib/systemd/random-seed "$1"/etc/ssh/ssh_host_* "$1"/etc/ssl/private/ssl-cert-snakeoil.key; : >"$1"/etc/machine-id"#;

/// Bakes a base into the directory `root`.
pub(super) fn bake(
    ctl: &Path,
    map: &IdMap,
    root: &Path,
    distribution: &Distribution,
    packages: &str,
    sources: &[Source],
    progress: &dyn Fn(&str),
) -> Result<()> {
    let mut list = tempfile::Builder::new()
        .prefix("magpie-")
        .suffix(".sources")
        .tempfile()
        .doing(|| "cannot write the list of apt sources")?;
    let text: String = sources.iter().map(Source::to_deb822).collect();
    list.write_all(text.as_bytes()).doing(|| "cannot write the list of apt sources")?;
    unpack_into(ctl, map, root, |stream| {
        debootstrap(map, distribution, packages, sources, list.path(), stream, progress)
    })
    .map_err(|error| error.context("cannot bake a base"))
}

fn debootstrap(
    map: &IdMap,
    distribution: &Distribution,
    packages: &str,
    sources: &[Source],
    list: &Path,
    output: UnixStream,
    progress: &dyn Fn(&str),
) -> Result<()> {
    let mode = if *map == IdMap::Fixed { "root" } else { "unshare" };
    let mut command = MMDEBSTRAP.command();
    command.args(["--variant=minbase", "--format=tar"]).arg(format!("--mode={mode}")).args([
        "--aptopt=Apt::Install-Recommends \"false\"",
        "--aptopt=Acquire::Languages \"none\"",
        "--aptopt=Acquire::GzipIndexes \"true\"",
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        // Kept, so that a host's first apt-get install needs no apt-get update.
        "--skip=cleanup/apt/lists",
    ]);
    command.arg(format!("--include={packages}")).arg(format!("--customize-hook={FORGET}"));
    for key in sources.iter().filter_map(Source::own_key).filter(|key| key.starts_with('/')) {
        let directory = Path::new(key).parent().unwrap_or_else(|| Path::new("/")).display();
        command.arg(format!("--customize-hook=mkdir -p \"$1{directory}\""));
        command.arg(format!("--customize-hook=copy-in {key} {directory}"));
    }
    let mut child = command
        .args([distribution.codename.as_str(), "-"])
        .arg(list)
        .stdin(Stdio::null())
        .stdout(OwnedFd::from(output))
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| MMDEBSTRAP.not_started(&error))?;
    drop(command);
    let said = child.stderr.take().map(|stderr| relay(stderr, progress)).unwrap_or_default();
    let status = child.wait().doing(|| "cannot wait for mmdebstrap")?;
    if status.success() {
        return Ok(());
    }
    Err(Error::unreachable(format!("mmdebstrap failed ({status}):\n{said}"))
        .hint("the packages come from this machine's apt sources: check that `apt-get update` works"))
}

/// Reports the steps that mean something to a user; returns the whole output, indented.
fn relay(said: impl Read, progress: &dyn Fn(&str)) -> String {
    let (mut whole, mut last) = (Vec::new(), None);
    for line in BufReader::new(said).split(b'\n').map_while(std::io::Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        // Several hooks count as one step.
        if let Some(step) = step(&line).filter(|step| last != Some(*step)) {
            progress(step);
            last = Some(step);
        }
        whole.push(format!("  {line}"));
    }
    whole.join("\n")
}

/// The step that a line of mmdebstrap's output starts, in our words; `None` for internal details.
fn step(line: &str) -> Option<&'static str> {
    const STEPS: [(&str, &str); 6] = [
        ("running apt-get update", "reading the package lists"),
        ("downloading packages", "downloading packages"),
        ("extracting archives", "unpacking"),
        ("installing essential packages", "installing the essential packages"),
        ("installing remaining packages", "installing the other packages"),
        ("running --customize-hook", "customising"),
    ];
    let said = line.strip_prefix("I: ")?;
    STEPS.into_iter().find_map(|(begins, step)| said.starts_with(begins).then_some(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output of mmdebstrap 1.3.5, shortened.
    const SAID: &[u8] = b"I: chroot architecture amd64 is equal to the host's architecture\n\
        I: using /tmp/mmdebstrap.C5NhIgSbGh as tempdir\nI: running apt-get update...\n\
        I: downloading packages with apt...\nI: extracting archives...\nReading package lists...\n\
        I: installing remaining packages inside the chroot...\nE: Unable to locate package caf\xe9\n\
        I: running --customize-hook in shell: sh -c 'rm -f \"$1\"/etc/hostname' exec /tmp/x\n\
        I: running --customize-hook in shell: sh -c 'mkdir -p \"$1/etc\"' exec /tmp/x\n";

    #[test]
    fn users_see_steps_and_an_error_has_every_line() {
        let steps = std::sync::Mutex::new(Vec::new());
        let whole = relay(SAID, &|step| steps.lock().unwrap().push(step.to_owned()));
        assert_eq!(
            steps.into_inner().unwrap(),
            [
                "reading the package lists",
                "downloading packages",
                "unpacking",
                "installing the other packages",
                "customising"
            ]
        );
        assert_eq!(whole.lines().count(), SAID.split(|byte| *byte == b'\n').count() - 1);
        assert!(whole.contains("  I: using /tmp/") && whole.contains("  E: Unable to locate package caf"));
    }
}
