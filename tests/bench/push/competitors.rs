//! Other tools in common use, all over the same sshd.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Pusher, Result, sshd::Sshd};

/// `tar | zstd -3 | ssh | zstd -d | tar x`: the whole tree each time.
pub(crate) struct TarOverSsh {
    ssh: String,
    destination: PathBuf,
}

impl TarOverSsh {
    pub(crate) fn new(sshd: &Sshd) -> Self {
        Self { ssh: sshd.ssh(), destination: PathBuf::new() }
    }
}

impl Pusher for TarOverSsh {
    fn name(&self) -> &'static str {
        "tar | zstd | ssh"
    }

    fn fresh(&mut self, scratch: &Path) -> Result<()> {
        self.destination = scratch.join("tar");
        Ok(())
    }

    fn push(&mut self, tree: &Path) -> Result<()> {
        let (tree, to, ssh) = (tree.display(), self.destination.display(), &self.ssh);
        shell(&format!(
            "tar -C {tree} --exclude=.git -cf - . | zstd -3 -q | {ssh} root@127.0.0.1 'mkdir -p {to} && zstd -dq | tar -C {to} -xf -'"
        ))
    }

    fn destination(&self) -> PathBuf {
        self.destination.clone()
    }
}

/// `rsync -a --delete -z`.
pub(crate) struct Rsync {
    ssh: String,
    destination: PathBuf,
}

impl Rsync {
    pub(crate) fn new(sshd: &Sshd) -> Self {
        Self { ssh: sshd.ssh(), destination: PathBuf::new() }
    }
}

impl Pusher for Rsync {
    fn name(&self) -> &'static str {
        "rsync -az --delete"
    }

    fn fresh(&mut self, scratch: &Path) -> Result<()> {
        self.destination = scratch.join("rsync");
        Ok(())
    }

    fn push(&mut self, tree: &Path) -> Result<()> {
        let (tree, to, ssh) = (tree.display(), self.destination.display(), &self.ssh);
        shell(&format!("rsync -az --delete --exclude=.git -e '{ssh}' {tree}/ root@127.0.0.1:{to}/"))
    }

    fn destination(&self) -> PathBuf {
        self.destination.clone()
    }
}

/// `ansible.posix.synchronize` in a playbook without facts.
pub(crate) struct Synchronize {
    port: u16,
    key: PathBuf,
    playbook: PathBuf,
    destination: PathBuf,
}

impl Synchronize {
    /// `None` if ansible is not installed.
    pub(crate) fn new(sshd: &Sshd, scratch: &Path) -> Result<Option<Self>> {
        if !succeeds("ansible-doc -t module ansible.posix.synchronize") {
            return Ok(None);
        }
        let playbook = scratch.join("synchronize.yml");
        fs::write(
            &playbook,
            "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.posix.synchronize: {src: '{{ tree }}/', dest: '{{ to }}/', delete: true}\n",
        )?;
        Ok(Some(Self { port: sshd.port(), key: sshd.user_key(), playbook, destination: PathBuf::new() }))
    }
}

impl Pusher for Synchronize {
    fn name(&self) -> &'static str {
        "ansible synchronize"
    }

    fn fresh(&mut self, scratch: &Path) -> Result<()> {
        self.destination = scratch.join("ansible");
        Ok(())
    }

    fn push(&mut self, tree: &Path) -> Result<()> {
        shell(&format!(
            "ANSIBLE_HOST_KEY_CHECKING=False ansible-playbook -i 127.0.0.1, -u root --private-key {} -e ansible_port={} -e tree={} -e to={} {} >/dev/null",
            self.key.display(),
            self.port,
            tree.display(),
            self.destination.display(),
            self.playbook.display()
        ))
    }

    fn destination(&self) -> PathBuf {
        self.destination.clone()
    }
}

fn shell(line: &str) -> Result<()> {
    let status = Command::new("bash").args(["-o", "pipefail", "-c", line]).status()?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` ended with {status}").into()) }
}

fn succeeds(line: &str) -> bool {
    let quiet = Command::new("sh").args(["-c", line]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}
