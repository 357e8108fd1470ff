//! Runs by id, and following one to its end over as many connections as that takes.

use std::time::{Duration, Instant};

use proto::pb;
use tonic::transport::Channel;

use crate::{
    client::runs::{self, Followed},
    context::Context,
    error::{Error, Kind, Result},
    provider::Host,
    render::live::Live,
};

/// How long a host may be away in the middle of a run before following is given up; the run goes on all the same.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between attempts to reach it again.
const PAUSE: Duration = Duration::from_millis(300);
/// Letters of a run id after the host's name; without those that look alike.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

/// A new run id: the host's name, so that `attach` and `cancel` find the host, and six random letters.
pub(super) fn new_run_id(host_name: &str) -> Result<String> {
    let mut random = [0u8; 6];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::invalid("the system has no random numbers"))?;
    let letters = random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    Ok(format!("{host_name}-{}", letters.collect::<String>()))
}

/// The host that a run id is of.
pub(super) async fn host_of(context: &Context, run_id: &str) -> Result<Host> {
    let (name, _) = run_id.rsplit_once('-').ok_or_else(|| {
        Error::invalid(format!("{run_id:?} is not the id of a run"))
            .hint("`ctl runs` lists them: HOST-xxxxxx")
    })?;
    let mut hosts = context.running(&[name.to_owned()], None).await?;
    Ok(hosts.remove(0))
}

/// Shows a run's events until it has ended; a broken connection is made again and goes on where it broke.
pub(super) async fn to_the_end(
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
        live.step(&host.name, "lost the connection; the run goes on, connecting again");
        channel = again(context, host, run_id).await?;
    }
}

async fn again(context: &Context, host: &Host, run_id: &str) -> Result<Channel> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match context.connect(host).await {
            Ok(connected) => return Ok(connected.channel),
            Err(error) if Instant::now() > deadline || error.kind() != Kind::Unreachable => {
                return Err(
                    error.hint(format!("`ctl attach {run_id}` follows the run when the host is back"))
                );
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
