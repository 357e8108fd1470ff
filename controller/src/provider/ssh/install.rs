//! Installing the agent on a machine, and removing it. Files that belong to a package are left alone.

use std::io;

use tar::{Builder, Header};
use zeroize::Zeroizing;

use super::{
    machine::Root,
    openssh::{Target, quote},
};
use crate::{
    error::{Error, Result},
    provider::{programs::Programs, units},
};

/// Runs as root, with the tar file on standard input or as first argument. Files are renamed into place, so none is
/// ever half-written. The restart makes an agent that waits with an older document read the new one.
const INSTALL: &str = r#"
set -eu
umask 022
[ $# = 0 ] || exec <"$1"
if [ -e /var/lib/magpie/state ]; then echo 'the machine is already enrolled' >&2; exit 1; fi
mkdir -p /var/lib/magpie
chmod 711 /var/lib/magpie
stage=$(mktemp -d /var/lib/magpie/adopt.XXXXXX)
trap 'rm -rf "$stage"' EXIT
tar -x -o -f - -C "$stage"
place() {
    mkdir -p "${2%/*}"
    cp "$stage/$1" "$2.new"
    chmod "$3" "$2.new"
    mv -f "$2.new" "$2"
}
if ! { dpkg-query -S /usr/lib/magpie/agent || rpm -qf /usr/lib/magpie/agent; } >/dev/null 2>&1; then
    for program in agent recorder; do place $program /usr/lib/magpie/$program 755; done
    for unit in magpie-agent.service magpie-record.service; do place $unit /usr/lib/systemd/system/$unit 644; done
fi
place enrol.json /var/lib/magpie/enrol.json 600
if command -v restorecon >/dev/null; then
    restorecon -R /usr/lib/magpie /usr/lib/systemd/system/magpie-agent.service \
        /usr/lib/systemd/system/magpie-record.service /var/lib/magpie
fi
systemctl daemon-reload
systemctl enable --quiet magpie-agent.service magpie-record.service
systemctl restart magpie-agent.service magpie-record.service
"#;

/// Runs as the user. If sudo needs the terminal for a password, the tar file is uploaded first. $1 is empty.
const UPLOAD: &str = r#"umask 077; d=$(mktemp -d) && cat >"$d/payload" && echo "magpie=$d""#;
/// Runs after [`UPLOAD`], with the script and the upload directory.
const WITH_PASSWORD: &str = r#"sudo sh -c "$1" magpie "$2/payload"; status=$?; rm -rf "$2"; exit $status"#;

/// Runs in its own unit, because it stops the agent that started it. The sleep lets the agent answer the controller
/// first.
const REMOVE: &str = r#"
sleep 1
systemctl disable --quiet --now magpie-agent.service magpie-record.service
if ! { dpkg-query -S /usr/lib/magpie/agent || rpm -qf /usr/lib/magpie/agent; } >/dev/null 2>&1; then
    rm -f /usr/lib/magpie/agent /usr/lib/magpie/recorder /usr/lib/systemd/system/magpie-agent.service \
        /usr/lib/systemd/system/magpie-record.service
    rmdir /usr/lib/magpie
fi
rm -rf /var/lib/magpie
systemctl daemon-reload
"#;

/// The command that removes agent, identity, bundles, runs and record from an adopted machine, a second after the
/// command itself has returned.
pub fn removal() -> Vec<String> {
    ["systemd-run", "--quiet", "--collect", "--no-block", "--unit=magpie-removal", "sh", "-c", REMOVE]
        .map(str::to_owned)
        .to_vec()
}

/// Installs and starts the agent.
pub(super) async fn install(target: &Target, root: Root, programs: &Programs, document: &[u8]) -> Result<()> {
    let payload = payload(programs, document)
        .map_err(|error| Error::invalid(format!("cannot pack the agent: {error}")))?;
    let script = quote(INSTALL);
    let done = match root {
        Root::Direct => target.run(&format!("exec sh -c {script}"), &payload).await.map(drop),
        Root::Sudo => target.run(&format!("exec sudo -n sh -c {script}"), &payload).await.map(drop),
        Root::Password | Root::Never => {
            let said = target.run(&format!("exec sh -c {}", quote(UPLOAD)), &payload).await?;
            let place = said.lines().find_map(|line| line.strip_prefix("magpie="));
            let place =
                place.ok_or_else(|| Error::unreachable(format!("{target} did not accept the upload")))?;
            let command = format!("exec sh -c {} magpie {script} {}", quote(WITH_PASSWORD), quote(place));
            target.ask(&command).await
        }
    };
    done.map_err(|error| error.context(format!("cannot install the agent on {target}")))
}

/// A tar file with everything to install. It contains the secret enrol document.
fn payload(programs: &Programs, document: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut builder = Builder::new(Vec::with_capacity(programs.size() + 64 * 1024));
    for (name, mode, content) in [
        ("agent", 0o755, programs.agent.as_slice()),
        ("recorder", 0o755, programs.recorder.as_slice()),
        ("magpie-agent.service", 0o644, units::AGENT.as_bytes()),
        ("magpie-record.service", 0o644, units::RECORD.as_bytes()),
        ("enrol.json", 0o600, document),
    ] {
        let mut header = Header::new_ustar();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content)?;
    }
    builder.into_inner().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_good_shell() {
        for script in [INSTALL, UPLOAD, WITH_PASSWORD, REMOVE] {
            let checked = std::process::Command::new("sh").args(["-n", "-c", script]).output().unwrap();
            assert!(checked.status.success(), "{checked:?}");
        }
    }
}
