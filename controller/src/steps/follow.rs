//! Run ids, and following a run to its end across lost connections.

use std::{
    io,
    time::{Duration, Instant},
};

use proto::pb;
use tonic::transport::Channel;

use crate::{
    client::runs::{self, Followed},
    context::Context,
    error::{Error, Kind, Result},
    provider::{Host, HostState},
    render::live::Live,
};

/// How long a host may be unreachable before `ctl` stops following its run; the run itself continues.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a running host may refuse connections; an agent that only restarts listens again sooner.
const REFUSALS: Duration = Duration::from_secs(15);
/// Pause between reconnects.
const PAUSE: Duration = Duration::from_millis(300);
/// Characters for run ids, without those that look alike.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

/// A new run id: the host's name, so that `attach` and `cancel` find the host, and six random characters.
pub(crate) fn new_run_id(host_name: &str) -> Result<String> {
    let mut random = [0u8; 6];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::invalid("the system has no random numbers"))?;
    let letters = random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    Ok(format!("{host_name}-{}", letters.collect::<String>()))
}

/// The running host that a run id belongs to.
pub(crate) async fn host_of(context: &Context, run_id: &str) -> Result<Host> {
    let (name, _) = run_id.rsplit_once('-').ok_or_else(|| {
        Error::invalid(format!("{run_id:?} is not a run id"))
            .hint("run ids look like HOST-xxxxxx; `ctl runs` lists them")
    })?;
    let mut hosts = context.running(&[name.to_owned()], None).await?;
    Ok(hosts.remove(0))
}

/// Shows a run's events until it has ended; after a lost connection, reconnects and resumes at the same event.
pub(crate) async fn to_the_end(
    context: &Context,
    host: &Host,
    mut channel: Channel,
    run_id: &str,
    live: &Live,
) -> Result<pb::Run> {
    let mut offset = 0;
    let mut last_progress = Instant::now();
    loop {
        let mut shown = Ok(());
        let on_event = |event| {
            if shown.is_ok() {
                shown = live.event(&host.name, &event);
            }
        };
        let followed = runs::follow(channel, &host.name, run_id, offset, on_event).await?;
        shown?;
        match followed {
            Followed::Ended(run) => return Ok(*run),
            Followed::Disconnected { offset: reached } if reached > offset => {
                (offset, last_progress) = (reached, Instant::now());
            }
            Followed::Disconnected { .. } => {
                if last_progress.elapsed() > PATIENCE {
                    let lost = format!("{} drops every connection to run {run_id}", host.name);
                    return Err(Error::unreachable(lost).hint(format!("`ctl attach {run_id}` tries again")));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        let limit = PATIENCE.as_secs();
        live.step(
            &host.name,
            &format!("connection lost, the run continues; reconnecting for up to {limit} s"),
        );
        channel = Absence::new(context, host, run_id, live).end().await?;
    }
}

/// A host that became unreachable during a run.
struct Absence<'a> {
    context: &'a Context,
    host: &'a Host,
    run_id: &'a str,
    live: &'a Live,
    since: Instant,
    /// Since when the running host has refused connections.
    refused: Option<Instant>,
    told: String,
}

impl<'a> Absence<'a> {
    fn new(context: &'a Context, host: &'a Host, run_id: &'a str, live: &'a Live) -> Self {
        Self { context, host, run_id, live, since: Instant::now(), refused: None, told: String::new() }
    }

    /// Waits until the host can be reached again, and shows its state meanwhile.
    async fn end(mut self) -> Result<Channel> {
        loop {
            let error = match self.context.connect(self.host).await {
                Ok(connected) => return Ok(connected.channel),
                Err(error) => error,
            };
            if self.since.elapsed() > PATIENCE || error.kind() != Kind::Unreachable {
                return Err(error.hint(self.attach("follows the run when the host is back")));
            }
            self.look().await?;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Checks the host's state with the provider, and whether its kernel refuses connections.
    async fn look(&mut self) -> Result<()> {
        let (name, provider) = (&self.host.name, self.context.provider(self.host.provider)?);
        // If the provider does not answer now, it may answer next time.
        let hosts = provider.hosts(self.context.fleet.id()).await.unwrap_or_default();
        let state = hosts.iter().find(|host| host.id == self.host.id).map(|host| host.state);
        if state == Some(HostState::Stopped) {
            return Err(Error::new(Kind::Interrupted, format!("{name} has shut down, which ended the run"))
                .hint(format!("`ctl start {name}` boots it"))
                .hint(self.attach("then shows how far the run got")));
        }
        let dialled = provider.dial_until(self.host, proto::PORT, Instant::now()).await;
        let refuses = matches!(&dialled, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused);
        self.refused = refuses.then(|| self.refused.unwrap_or_else(Instant::now));
        if self.refused.is_some_and(|since| since.elapsed() > REFUSALS) {
            return Err(Error::unreachable(format!("{name} is up, but its agent is stopped"))
                .hint("on the host: systemctl start magpie-agent")
                .hint(self.attach("then shows the run, which continues without the agent")));
        }
        self.tell(match (state, refuses) {
            (Some(HostState::Stopping), _) => "is shutting down",
            (_, true) => "is up, but its agent is not listening yet",
            (_, false) => "does not answer; it may be rebooting",
        });
        Ok(())
    }

    /// Shows a state once, when it changes.
    fn tell(&mut self, what: &str) {
        if self.told != what {
            self.told = what.to_owned();
            self.live.step(&self.host.name, what);
        }
    }

    fn attach(&self, what: &str) -> String {
        format!("`ctl attach {}` {what}", self.run_id)
    }
}
