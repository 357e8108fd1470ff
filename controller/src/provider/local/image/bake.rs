//! Images: a base root filesystem, which takes most of a minute to make and is the same for every agent, and a
//! small layer with the agent and our settings on top, made in no time.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::Stdio,
};

use aws_lc_rs::digest::{Context, SHA256};

use super::{
    agent, prune,
    sources::{self, Distribution, Source},
};
use crate::{
    error::{Error, Result},
    provider::{
        ImageId, ImageSpec,
        local::{
            failure::Doing,
            namespace::{
                sandbox::{remove_tree, unpack_into},
                tool::MMDEBSTRAP,
                userns::IdMap,
            },
            state::{StateDir, lock},
        },
        programs::Programs,
    },
};

/// Changes whenever the same packages must give another base.
const RECIPE: &str = "1";
/// What every host has.
const PACKAGES: [&str; 7] =
    ["systemd-sysv", "dbus", "ca-certificates", "iproute2", "procps", "lsb-release", "puppet-agent"];
/// What a package's installation may have left that must never be the same on two hosts.
const FORGET: &str = r#"rm -f "$1"/etc/hostname "$1"/etc/machine-id "$1"/var/lib/dbus/machine-id "$1"/var/lib/systemd/random-seed "$1"/etc/ssh/ssh_host_* "$1"/etc/ssl/private/ssl-cert-snakeoil.key; : >"$1"/etc/machine-id"#;

/// Finds the image of this content, or bakes it.
pub(crate) fn image(
    state: &StateDir,
    ctl: &Path,
    map: &IdMap,
    spec: &ImageSpec,
    progress: &dyn Fn(&str),
) -> Result<ImageId> {
    let programs = Programs::read(&spec.agent)?;
    let distribution = Distribution::of_this_machine()?;
    let packages = all_packages(spec);
    let base = key([RECIPE, &distribution.id, &distribution.codename, &packages].map(str::as_bytes));
    let tar = agent::tar(&programs).doing(|| "cannot lay out the agent's layer")?;
    let id = ImageId(format!("{base}-{}", key([tar.as_slice()])));

    let (base_path, image_path) = (state.bases().join(&base), state.images().join(&id.0));
    if base_path.exists() && image_path.exists() {
        return Ok(id);
    }
    let _turn = lock(&state.bake_lock())?;
    if !base_path.exists() {
        let sources = sources::read(Path::new("/etc/apt"), &distribution)?;
        progress(&format!("baking a {} base with {packages}", distribution.codename));
        in_place(ctl, map, &base_path, |root| {
            bake_base(ctl, map, root, &distribution, &packages, &sources, progress)
        })?;
    }
    if !image_path.exists() {
        progress(&format!("adding the agent: image {}", id.0));
        in_place(ctl, map, &image_path, |root| {
            unpack_into(ctl, map, root, |mut stream| {
                std::io::Write::write_all(&mut stream, &tar).doing(|| "cannot unpack the agent's layer")
            })
        })?;
    }
    if let Err(error) = prune::prune(state, ctl, map, &id, progress) {
        progress(&format!("old images stay for now: {error}"));
    }
    Ok(id)
}

fn all_packages(spec: &ImageSpec) -> String {
    let mut packages: Vec<&str> =
        PACKAGES.into_iter().chain(spec.packages.iter().map(String::as_str)).collect();
    packages.sort_unstable();
    packages.dedup();
    packages.join(",")
}

/// 16 hex digits over `parts`, each with its length, so that no two lists of parts look the same.
fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    context.finish().as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lets `make` fill a directory beside `path`, and renames it when it is whole. What an interrupted bake left
/// there is removed first: the caller holds the lock.
pub(crate) fn in_place(
    ctl: &Path,
    map: &IdMap,
    path: &Path,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let fresh = path.with_extension("new");
    remove_tree(ctl, map, &fresh)?;
    if let Err(error) = make(&fresh) {
        remove_tree(ctl, map, &fresh)?;
        return Err(error);
    }
    fs::rename(&fresh, path).doing(|| format!("cannot rename {}", fresh.display()))
}

fn bake_base(
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
    std::io::Write::write_all(&mut list, text.as_bytes()).doing(|| "cannot write the list of apt sources")?;
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
        // A host's first apt-get install needs no apt-get update.
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
    Err(Error::unreachable(format!("mmdebstrap failed ({status}); it said:\n{said}"))
        .hint("the packages come from this machine's own apt sources: does apt-get update work?"))
}

/// Passes on the steps that mean something to a person; returns all that was said, indented.
fn relay(said: impl Read, progress: &dyn Fn(&str)) -> String {
    let (mut whole, mut last) = (Vec::new(), None);
    for line in BufReader::new(said).split(b'\n').map_while(std::io::Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        // Several hooks are one step.
        if let Some(step) = step(&line).filter(|step| last != Some(*step)) {
            progress(step);
            last = Some(step);
        }
        whole.push(format!("  {line}"));
    }
    whole.join("\n")
}

/// The step that a line of mmdebstrap's begins, in our words: its own also tell of its inner life.
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

    /// What mmdebstrap 1.3.5 says, shortened.
    const SAID: &[u8] = b"I: chroot architecture amd64 is equal to the host's architecture\n\
        I: using /tmp/mmdebstrap.C5NhIgSbGh as tempdir\nI: running apt-get update...\n\
        I: downloading packages with apt...\nI: extracting archives...\nReading package lists...\n\
        I: installing remaining packages inside the chroot...\nE: Unable to locate package caf\xe9\n\
        I: running --customize-hook in shell: sh -c 'rm -f \"$1\"/etc/hostname' exec /tmp/x\n\
        I: running --customize-hook in shell: sh -c 'mkdir -p \"$1/etc\"' exec /tmp/x\n";

    #[test]
    fn a_person_hears_of_steps_and_an_error_has_every_line() {
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

    #[test]
    fn the_key_depends_on_where_a_part_ends() {
        assert_ne!(key([b"ab".as_slice(), b"c"]), key([b"a".as_slice(), b"bc"]));
    }
}
