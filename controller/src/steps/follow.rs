//! Runs by id, and following one to its end over as many connections as that takes.

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

/// How long a host may be away in the middle of a run before following is given up; the run goes on all the same.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a host that is up may refuse connections: its agent, were it only restarted, would listen again.
const REFUSALS: Duration = Duration::from_secs(15);
/// Between attempts to reach it again.
const PAUSE: Duration = Duration::from_millis(300);
/// Letters of a run id after the host's name; without those that look alike.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

/// A new run id: the host's name, so that `attach` and `cancel` find the host, and six random letters.
pub(crate) fn new_run_id(host_name: &str) -> Result<String> {
    let mut random = [0u8; 6];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::invalid("the system has no random numbers"))?;
    let letters = random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    Ok(format!("{host_name}-{}", letters.collect::<String>()))
}

/// The host that a run id is of.
pub(crate) async fn host_of(context: &Context, run_id: &str) -> Result<Host> {
    let (name, _) = run_id.rsplit_once('-').ok_or_else(|| {
        Error::invalid(format!("{run_id:?} is not the id of a run"))
            .hint("`ctl runs` lists them: HOST-xxxxxx")
    })?;
    let mut hosts = context.running(&[name.to_owned()], None).await?;
    Ok(hosts.remove(0))
}

/// Shows a run's events until it has ended; a broken connection is made again and goes on where it broke.
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
                    let lost = format!("{} breaks every connection to run {run_id}", host.name);
                    return Err(Error::unreachable(lost).hint(format!("`ctl attach {run_id}` tries again")));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        let limit = PATIENCE.as_secs();
        live.step(
            &host.name,
            &format!(
                "lost the connection, which the run does not need; connecting again for up to {limit} s"
            ),
        );
        channel = Absence::new(context, host, run_id, live).end().await?;
    }
}

/// A host that is away in the middle of a run.
struct Absence<'a> {
    context: &'a Context,
    host: &'a Host,
    run_id: &'a str,
    live: &'a Live,
    since: Instant,
    /// Since when nobody listens on a host that is up.
    refused: Option<Instant>,
    told: String,
}

impl<'a> Absence<'a> {
    fn new(context: &'a Context, host: &'a Host, run_id: &'a str, live: &'a Live) -> Self {
        Self { context, host, run_id, live, since: Instant::now(), refused: None, told: String::new() }
    }

    /// Waits for the host, and says what is known of it meanwhile.
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

    /// What its provider and its kernel say of a host whose agent does not answer.
    async fn look(&mut self) -> Result<()> {
        let (name, provider) = (&self.host.name, self.context.provider(self.host.provider)?);
        // A provider that cannot be asked now may answer the next time.
        let hosts = provider.hosts(self.context.fleet.id()).await.unwrap_or_default();
        let state = hosts.iter().find(|host| host.id == self.host.id).map(|host| host.state);
        if state == Some(HostState::Stopped) {
            return Err(Error::new(Kind::Interrupted, format!("{name} has shut down, and the run with it"))
                .hint(format!("`ctl start {name}` boots it"))
                .hint(self.attach("then shows how far the run got")));
        }
        let dialled = provider.dial_until(self.host, proto::PORT, Instant::now()).await;
        let refuses = matches!(&dialled, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused);
        self.refused = refuses.then(|| self.refused.unwrap_or_else(Instant::now));
        if self.refused.is_some_and(|since| since.elapsed() > REFUSALS) {
            return Err(Error::unreachable(format!("{name} is up and its agent is not: it was stopped"))
                .hint("on the host: systemctl start magpie-agent")
                .hint(self.attach("then shows what became of the run, which goes on")));
        }
        self.tell(match (state, refuses) {
            (Some(HostState::Stopping), _) => "is shutting down",
            (_, true) => "is up, its agent does not listen yet",
            (_, false) => "does not answer; it may be rebooting",
        });
        Ok(())
    }

    /// Says what is new, once.
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
