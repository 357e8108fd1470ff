//! Stops the host some time after its lease ended, if the claim asks for that: the owner may have disappeared, and no
//! controller runs all the time.
//!
//! [`is_due`] decides. `Watch` checks from time to time, announces the stop on the console, checks again, and stops
//! the host. Leases end by wall time, and the clock may be wrong after boot, so nothing happens in the agent's first
//! minutes.

use std::{convert::Infallible, ffi::OsString, process::Stdio, sync::Arc, time::Duration, time::SystemTime};

use proto::pb::Claim;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use super::runs;
use crate::{claim::Store, enrol::console::Console, run::unix_ms};

/// Delays and intervals.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long after its start the agent begins to trust the clock.
    pub settle: Duration,
    /// Interval between checks of the claim.
    pub look: Duration,
    /// Time from the warning until the stop.
    pub warning: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(10 * 60),
            look: Duration::from_secs(30),
            warning: Duration::from_secs(60),
        }
    }
}

/// Whether a host with this claim should stop, if its agent has run for this long.
pub fn is_due(
    claim: &Claim,
    now_unix_ms: i64,
    running_for: Duration,
    is_run_active: bool,
    pace: Pace,
) -> bool {
    let grace_ms = i64::try_from(claim.stop_after_s).unwrap_or(i64::MAX).saturating_mul(1000);
    claim.stop_after_s > 0
        && !is_run_active
        && running_for >= pace.settle
        && now_unix_ms > claim.until_unix_ms.saturating_add(grace_ms)
}

/// Checks the claim and stops the host.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) claims: Arc<Store>,
    pub(super) runs: runs::Service,
    /// The command that stops the host: a program and its arguments.
    pub(super) command: Vec<OsString>,
    pub(super) pace: Pace,
}

impl Watch {
    /// Checks until the future is dropped. Stopping the host ends the agent like any other stop.
    pub(super) async fn watch(&self, console: &Console) -> Infallible {
        let started = Instant::now();
        loop {
            sleep(self.pace.look).await;
            let Some(claim) = self.due(started).await else { continue };
            let Claim { id, user, .. } = claim;
            let seconds = self.pace.warning.as_secs();
            console.say(&format!(
                "MAGPIE-STOP v1 in {seconds} s: the lease of {user}'s claim {id} is over; extend it or start a run to keep this host"
            ));
            sleep(self.pace.warning).await;
            if self.due(started).await.is_none() {
                console.say("MAGPIE-STOP v1 called off");
                continue;
            }
            console.say("MAGPIE-STOP v1 now");
            if let Err(reason) = self.stop().await {
                console.say(&format!("MAGPIE-STOP v1 error: {reason}"));
            }
        }
    }

    /// The claim whose lease ended long enough ago to stop the host now. An unreadable claim stops nothing.
    async fn due(&self, started: Instant) -> Option<Claim> {
        let (claims, runs, pace) = (Arc::clone(&self.claims), self.runs.clone(), self.pace);
        let due = move || {
            let claim = claims.present().ok().flatten()?;
            let is_run_active = runs.has_active().unwrap_or(true);
            let now = unix_ms(SystemTime::now());
            is_due(&claim, now, started.elapsed(), is_run_active, pace).then_some(claim)
        };
        runs::blocking(due).await.ok().flatten()
    }

    async fn stop(&self) -> Result<(), String> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err("the agent has no command to stop this host".to_owned());
        };
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().await;
        let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}: {}: {}", program.display(), output.status, said.trim()))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io, path::Path};

    use proto::pb::ClaimRequest;
    use tokio::{sync::mpsc, time::timeout};

    use super::*;
    use crate::{paths::Paths, run::Launcher};

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn only_an_idle_host_long_past_its_lease_stops() {
        let claim = |until_unix_ms, stop_after_s| Claim { until_unix_ms, stop_after_s, ..Claim::default() };
        let due = |claim: &Claim, now, running_for, active| {
            is_due(claim, now, running_for, active, Pace::default())
        };
        let cases = [
            ("within the lease", claim(10_000, 5), 9_000, 11 * MINUTE, false, false),
            ("within the time after it", claim(10_000, 5), 15_000, 11 * MINUTE, false, false),
            ("after that", claim(10_000, 5), 15_001, 11 * MINUTE, false, true),
            ("with an active run", claim(10_000, 5), 15_001, 11 * MINUTE, true, false),
            ("soon after the start", claim(10_000, 5), 15_001, 9 * MINUTE, false, false),
            ("never asked to", claim(10_000, 0), i64::MAX, 11 * MINUTE, false, false),
            ("at the end of time", claim(10_000, u64::MAX), i64::MAX, 11 * MINUTE, false, false),
        ];
        for (what, claim, now, running_for, active, expected) in cases {
            assert_eq!(due(&claim, now, running_for, active), expected, "{what}");
        }
        let settled = Claim { settled: true, ..claim(10_000, 5) };
        assert!(due(&settled, 15_001, 11 * MINUTE, false), "also if it is in use");
    }

    /// A console that sends each line to a channel.
    struct Lines(mpsc::UnboundedSender<String>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let line = String::from_utf8_lossy(bytes).trim().to_owned();
            let _ = self.0.send(line);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A host with an expired claim, the program that stops it, and its console output.
    fn host(
        root: &Path,
        command: &[&str],
        warning: Duration,
    ) -> (Watch, Console, mpsc::UnboundedReceiver<String>) {
        let paths = Paths::new(root);
        fs::create_dir(paths.state()).expect("made");
        let claims = Arc::new(Store::new(&paths));
        let over =
            ClaimRequest { id: "c".into(), until_unix_ms: 1, stop_after_s: 1, ..ClaimRequest::default() };
        claims.claim(&over, "alice", 1).expect("granted");
        let runs = runs::Service::new(paths, Launcher::Direct { agent: "/bin/true".into() }).expect("runs");
        let pace = Pace { settle: Duration::ZERO, look: Duration::from_millis(1), warning };
        let command = command.iter().map(OsString::from).collect();
        let (lines, said) = mpsc::unbounded_channel();
        (Watch { claims, runs, command, pace }, Console::new(Lines(lines)), said)
    }

    async fn next(said: &mut mpsc::UnboundedReceiver<String>) -> String {
        said.recv().await.expect("the console is there")
    }

    #[tokio::test]
    async fn the_host_is_stopped_after_a_warning() {
        let root = tempfile::tempdir().expect("a directory");
        let stopped = root.path().join("stopped");
        let (watch, console, mut said) =
            host(root.path(), &["/bin/mkdir", stopped.to_str().expect("UTF-8")], Duration::from_millis(1));
        let lines = async {
            let warning = next(&mut said).await;
            assert!(warning.contains("alice's claim c is over"), "{warning}");
            assert_eq!(next(&mut said).await, "MAGPIE-STOP v1 now");
            // The next round can begin only after the command has ended.
            next(&mut said).await;
        };
        tokio::select! {
            never = watch.watch(&console) => match never {},
            done = timeout(MINUTE, lines) => done.expect("in time"),
        }
        assert!(stopped.is_dir());
    }

    #[tokio::test]
    async fn an_extended_lease_calls_it_off() {
        let root = tempfile::tempdir().expect("a directory");
        let (watch, console, mut said) = host(root.path(), &["/bin/false"], Duration::from_millis(200));
        let lines = async {
            assert!(next(&mut said).await.contains("is over"));
            watch.claims.extend(unix_ms(SystemTime::now()) + 3_600_000).expect("extended");
            assert_eq!(next(&mut said).await, "MAGPIE-STOP v1 called off");
        };
        tokio::select! {
            never = watch.watch(&console) => match never {},
            done = timeout(MINUTE, lines) => done.expect("in time"),
        }
    }

    #[tokio::test]
    async fn a_failed_stop_is_reported_and_retried() {
        let root = tempfile::tempdir().expect("a directory");
        let (watch, console, mut said) = host(root.path(), &["/bin/false"], Duration::from_millis(1));
        let lines = async {
            while !next(&mut said).await.contains("error: /bin/false: exit status: 1") {}
            assert!(next(&mut said).await.contains("is over"));
        };
        tokio::select! {
            never = watch.watch(&console) => match never {},
            done = timeout(MINUTE, lines) => done.expect("in time"),
        }
    }
}
