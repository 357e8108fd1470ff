//! Reaching one host: dialling with patience, enrolment if nobody has finished it, mutual TLS.

use std::{
    io,
    time::{Duration, Instant, SystemTime},
};

use tokio::time::sleep;
use tonic::transport::Channel;

use crate::{
    client::{self, Outcome},
    context::Context,
    error::{Error, Kind, Result},
    provider::{Host, Standing, Stream},
};

/// How long a host that is up may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Between attempts to speak with a host through a proxy command: doubled by each, up to the last.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// After this many failures the cause is not a race.
const ENROL_ATTEMPTS: usize = 3;

/// What it took to get a connection.
#[derive(Debug)]
pub struct Connected {
    /// Authenticated both ways.
    pub channel: Channel,
    /// From the first attempt to an answering port.
    pub boot: Duration,
    /// Enrolment and the first mutual TLS handshake.
    pub enrol: Duration,
}

impl Context {
    /// Connects to a host; enrols it first if no controller has finished that.
    pub async fn connect(&self, host: &Host) -> Result<Connected> {
        let patience = if host.enrolled() { ANSWER } else { self.provider(host.provider)?.boot_time() };
        self.connect_until(host, Instant::now() + patience).await
    }

    /// Connects to a host that was just started, with the patience that a boot needs.
    pub async fn connect_after_boot(&self, host: &Host) -> Result<Connected> {
        let patience = self.provider(host.provider)?.boot_time();
        self.connect_until(host, Instant::now() + patience).await
    }

    /// Connects to a host if it answers at once.
    pub async fn connect_now(&self, host: &Host) -> Result<Connected> {
        self.connect_until(host, Instant::now()).await
    }

    /// What stands behind a proxy command shows only when it is spoken to: then the whole is tried again.
    async fn connect_until(&self, host: &Host, deadline: Instant) -> Result<Connected> {
        let (started, mut pause) = (Instant::now(), PAUSES[0]);
        loop {
            match self.attempt(host, started, deadline).await {
                Err(error) if error.is_absent() && Instant::now() + pause < deadline => sleep(pause).await,
                Err(error) if error.is_absent() => {
                    let what = format!("{} does not answer on port {}", host.name, proto::PORT);
                    return Err(self.with_console(host, error.context(what)).await);
                }
                Err(error) if !host.enrolled() => return Err(self.with_console(host, error).await),
                outcome => return outcome,
            }
            pause = (pause * 2).min(PAUSES[1]);
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
        // Where somebody else was quicker, he also knows what has become of the host since.
        if enrolled == Some(Outcome::Committed) {
            let mut host = host.clone();
            host.usage.standing = Standing::Claimed;
            self.provider(host.provider)?.mark(&host).await?;
        }
        Ok(Connected { channel, boot, enrol: started.elapsed() - boot })
    }

    /// Enrolment may be broken off from outside, by another controller that was quicker or by a lost connection;
    /// trying again is safe, and finds out which.
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

    /// What a host cannot say over the network it says on its console.
    async fn with_console(&self, host: &Host, error: Error) -> Error {
        let Ok(provider) = self.provider(host.provider) else { return error };
        let console = provider.console(host).await.unwrap_or_default();
        match console.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(last) => error.hint(format!("the last line on its console: {}", last.trim())),
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
        .hint("`ctl hosts` shows whether it runs")
}
