//! The agent's layer: the agent, its units, and settings that make the distribution a small host.

use std::io;

use tar::{Builder, EntryType, Header};

use crate::provider::{programs::Programs, units};

/// Units that are useless in a host, wait for hardware, or would interfere with the agent.
const MASKED: [&str; 28] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "motd-news.timer",
    "puppet.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "modprobe@configfs.service",
    "modprobe@dm_mod.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "modprobe@loop.service",
    // Each of these two watches a directory, and all hosts share the machine's 128 inotify instances.
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-journal-flush.service",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-udevd.service",
    "systemd-update-utmp.service",
];

/// Paths and contents of files.
const FILES: [(&str, &str); 5] = [
    // Empty means unset; the provider writes each host's own id.
    ("etc/machine-id", ""),
    ("usr/lib/systemd/system/magpie-agent.service", units::AGENT),
    ("usr/lib/systemd/system/magpie-record.service", units::RECORD),
    // Saves 8 MB of disk for each host.
    ("etc/systemd/journald.conf.d/magpie.conf", "[Journal]\nStorage=volatile\n"),
    // These facts query a missing metadata service, or load every Augeas lens: 0.4 s of each run.
    ("etc/facter/facter.conf", "facts : { blocklist : [ \"augeas\", \"EC2\", \"GCE\", \"Xen\" ] }\n"),
];

/// The layer as a tar file; reproducible for the same programs.
pub(crate) fn tar(programs: &Programs) -> io::Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::with_capacity(programs.size() + 64 * 1024));
    for directory in directories() {
        add(&mut builder, EntryType::Directory, directory, 0o755, &[])?;
    }
    for (path, content) in FILES {
        add(&mut builder, EntryType::Regular, path, 0o644, content.as_bytes())?;
    }
    add(&mut builder, EntryType::Regular, "usr/lib/magpie/agent", 0o755, &programs.agent)?;
    add(&mut builder, EntryType::Regular, "usr/lib/magpie/recorder", 0o755, &programs.recorder)?;
    for unit in ["magpie-agent.service", "magpie-record.service"] {
        let wanted = format!("etc/systemd/system/sysinit.target.wants/{unit}");
        link(&mut builder, &wanted, &format!("/usr/lib/systemd/system/{unit}"))?;
    }
    for unit in MASKED {
        link(&mut builder, &format!("etc/systemd/system/{unit}"), "/dev/null")?;
    }
    builder.into_inner()
}

fn directories() -> [&'static str; 12] {
    [
        "etc",
        "etc/facter",
        "etc/systemd",
        "etc/systemd/journald.conf.d",
        "etc/systemd/system",
        "etc/systemd/system/sysinit.target.wants",
        "usr",
        "usr/lib",
        "usr/lib/magpie",
        "usr/lib/systemd",
        "usr/lib/systemd/system",
        "var",
    ]
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header
}

fn add(
    builder: &mut Builder<Vec<u8>>,
    kind: EntryType,
    path: &str,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    builder.append_data(&mut header(kind, mode, content.len()), path, content)
}

fn link(builder: &mut Builder<Vec<u8>>, path: &str, target: &str) -> io::Result<()> {
    builder.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_programs_same_bytes_and_every_parent_is_there() {
        let programs = Programs { agent: b"agent".to_vec(), recorder: b"recorder".to_vec() };
        let bytes = tar(&programs).unwrap();
        assert_eq!(bytes, tar(&programs).unwrap());
        let mut seen = std::collections::BTreeSet::from([std::path::PathBuf::new()]);
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let path = entry.unwrap().path().unwrap().into_owned();
            assert!(seen.contains(path.parent().unwrap()), "{} comes before its directory", path.display());
            seen.insert(path);
        }
        for program in ["usr/lib/magpie/agent", "usr/lib/magpie/recorder"] {
            assert!(seen.contains(std::path::Path::new(program)));
        }
    }
}
