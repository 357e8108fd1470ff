//! Connects to one host: dialling with retries, enrolment if it is not finished, mutual TLS.

use std::{
    io,
    time::{Duration, Instant, SystemTime},
};

use tonic::transport::Channel;

use crate::{
    client::{self, Outcome},
    context::Context,
    error::{Error, Kind, Result},
    pauses::Pauses,
    provider::{Host, Standing, Stream},
};

/// Time limit for a running host to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Pauses between attempts through a proxy command.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// After this many failed attempts, a race with another controller is no longer likely.
const ENROL_ATTEMPTS: usize = 3;

/// A connection to a host, and how long it took.
#[derive(Debug)]
pub(crate) struct Connected {
    /// The mutually authenticated channel.
    pub channel: Channel,
    /// Time from the first attempt until the port answered.
    pub boot: Duration,
    /// Time for enrolment and the first mutual TLS handshake.
    pub enrol: Duration,
}

impl Context {
    /// Connects to a host; enrols it first if it is not enrolled yet.
    pub(crate) async fn connect(&self, host: &Host) -> Result<Connected> {
        let patience = if host.enrolled() { ANSWER } else { self.provider(host.provider)?.boot_time() };
        self.connect_until(host, Instant::now() + patience).await
    }

    /// Connects to a host that was just started; waits as long as a boot may take.
    pub(crate) async fn connect_after_boot(&self, host: &Host) -> Result<Connected> {
        let patience = self.provider(host.provider)?.boot_time();
        self.connect_until(host, Instant::now() + patience).await
    }

    /// Connects to a host with a single attempt.
    pub(crate) async fn connect_now(&self, host: &Host) -> Result<Connected> {
        self.connect_until(host, Instant::now()).await
    }

    /// Retries until the deadline. Behind a proxy command, only the TLS handshake shows whether the port is open, so
    /// each retry repeats the whole attempt.
    async fn connect_until(&self, host: &Host, deadline: Instant) -> Result<Connected> {
        let (started, mut pauses) = (Instant::now(), Pauses::new(FIRST_PAUSE, LONGEST_PAUSE));
        loop {
            let error = match self.attempt(host, started, deadline).await {
                Err(error) if error.is_absent() => error,
                Err(error) if !host.enrolled() => return Err(self.with_console(host, error).await),
                outcome => return outcome,
            };
            if !pauses.pause_before(deadline).await {
                let what = format!("{} does not answer on port {}", host.name, proto::PORT);
                return Err(self.with_console(host, error.context(what)).await);
            }
        }
    }

    async fn attempt(&self, host: &Host, started: Instant, deadline: Instant) -> Result<Connected> {
        let mut stream = self.dial(host, deadline).await?;
        let boot = started.elapsed();
        let mut enrolled = None;
        if !host.enrolled() {
            enrolled = Some(self.enrol(host, stream, deadline).await?);
            stream = self.dial(host, deadline).await?;
        }
        let channel = client::connect(stream, &self.fleet, &host.id)
            .await
            .map_err(|error| error.context_once(&host.name))?;
        // If another controller enrolled the host first, its tags are newer than ours: keep them.
        if enrolled == Some(Outcome::Committed) {
            let mut host = host.clone();
            host.usage.standing = Standing::Claimed;
            self.provider(host.provider)?.mark(&host).await?;
        }
        Ok(Connected { channel, boot, enrol: started.elapsed() - boot })
    }

    /// Enrols the host, with retries. Another controller may enrol it first, or the connection may be lost; retrying is
    /// safe in both cases.
    async fn enrol(&self, host: &Host, mut stream: Stream, deadline: Instant) -> Result<Outcome> {
        self.fleet.enroller(SystemTime::now())?;
        let mut attempt = 1;
        loop {
            match client::enrol(stream, &self.fleet, &host.tid, &host.id).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) if error.is_absent() => return Err(error),
                Err(error) if attempt == ENROL_ATTEMPTS || error.kind() != Kind::Unreachable => {
                    return Err(error.context("enrolment"));
                }
                Err(_) => stream = self.dial(host, deadline).await?,
            }
            attempt += 1;
        }
    }

    /// Adds the last line of the host's console as a hint.
    async fn with_console(&self, host: &Host, error: Error) -> Error {
        let Ok(provider) = self.provider(host.provider) else { return error };
        let console = provider.console(host).await.unwrap_or_default();
        match console.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(last) => error.hint(format!("last line on its console: {}", last.trim())),
            None => error,
        }
    }

    async fn dial(&self, host: &Host, deadline: Instant) -> Result<Stream> {
        let provider = self.provider(host.provider)?;
        provider.dial_until(host, proto::PORT, deadline).await.map_err(|error| gone(host, &error))
    }
}

fn gone(host: &Host, error: &io::Error) -> Error {
    Error::unreachable(format!("{} does not answer on port {}: {error}", host.name, proto::PORT))
        .hint("`ctl hosts` shows whether it is running")
}
