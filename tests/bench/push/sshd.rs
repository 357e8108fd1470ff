//! A temporary sshd on a free port of 127.0.0.1, with its own keys and configuration.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::Result;

/// Privilege separation directory; sshd does not start without it.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// The sshd; ended when dropped.
pub(crate) struct Sshd {
    child: Child,
    directory: PathBuf,
    port: u16,
    made_directory: bool,
}

impl Sshd {
    /// Starts sshd with all its files below `scratch`.
    pub(crate) fn start(scratch: &Path) -> Result<Self> {
        let directory = scratch.join("sshd");
        fs::create_dir(&directory)?;
        for key in ["host_key", "user_key"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(directory.join(key))
                .status()?;
            if !made.success() {
                return Err("ssh-keygen failed".into());
            }
        }
        fs::copy(directory.join("user_key.pub"), directory.join("authorized_keys"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let at = directory.display();
        let configuration = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {at}/host_key\nAuthorizedKeysFile {at}/authorized_keys\n\
             PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\nLogLevel QUIET\n"
        );
        fs::write(directory.join("config"), configuration)?;
        let made_directory = fs::create_dir(PRIVILEGE_SEPARATION).is_ok();
        let program = ["/usr/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|path| Path::new(path).exists());
        let child = Command::new(program.ok_or("sshd is not installed")?)
            .args(["-D", "-e", "-f"])
            .arg(directory.join("config"))
            .stdin(Stdio::null())
            .spawn()?;
        let sshd = Self { child, directory, port, made_directory };
        sshd.wait_until_it_listens()?;
        Ok(sshd)
    }

    fn wait_until_it_listens(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if Instant::now() > deadline {
                return Err("sshd does not listen".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The ssh command for this sshd, as words.
    pub(crate) fn ssh(&self) -> String {
        let at = self.directory.display();
        format!(
            "ssh -F none -i {at}/user_key -p {} -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile={at}/known_hosts -o LogLevel=ERROR",
            self.port
        )
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Path of the accepted private key.
    pub(crate) fn user_key(&self) -> PathBuf {
        self.directory.join("user_key")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // sshd may already have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.made_directory {
            let _ = fs::remove_dir(PRIVILEGE_SEPARATION);
        }
    }
}
