//! Tracks the runs that a command has started, so that Ctrl-C and SIGTERM can detach and print how to follow them.

use std::sync::{Arc, Mutex, PoisonError};

use proto::pb;
use tokio::signal::{
    ctrl_c,
    unix::{SignalKind, signal},
};
use tonic::transport::Channel;

use crate::{
    client,
    error::{Error, Kind, Result},
    provider::Host,
    render::live::Live,
};

/// The ids of the started runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Started(Arc<Mutex<Vec<String>>>);

/// Waits for the work, or for Ctrl-C or SIGTERM. On these, detaches: the runs continue, and the error says how to follow
/// them.
pub(crate) async fn or_detach<T>(work: impl Future<Output = T>, live: &Live, started: &Started) -> Result<T> {
    let mut terminated = signal(SignalKind::terminate())
        .map_err(|error| Error::invalid(format!("cannot handle signals: {error}")))?;
    tokio::select! {
        done = work => return Ok(done),
        _ = ctrl_c() => {}
        _ = terminated.recv() => {}
    }
    live.finish();
    Err(started.detached())
}

impl Started {
    /// Starts a run and shows its id. The id is stored before the request, because Ctrl-C may come before the answer.
    pub(crate) async fn start(
        &self,
        channel: Channel,
        host: &Host,
        request: pb::StartRequest,
        live: &Live,
    ) -> Result<pb::Run> {
        let id = request.run_id.clone();
        self.add(&id);
        let run = client::runs::start(channel, &host.name, request).await;
        match &run {
            Ok(_) => live.started(&host.name, &id)?,
            Err(_) => self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| *known != id),
        }
        run
    }

    /// Adds a run.
    pub(crate) fn add(&self, run: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(run.to_owned());
    }

    fn detached(&self) -> Error {
        let runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut error = match runs.as_slice() {
            [] => Error::new(Kind::Interrupted, "interrupted before anything was started"),
            [run] => Error::new(Kind::Detached, format!("detached: run {run} continues")),
            _ => Error::new(Kind::Detached, format!("detached: {} runs continue", runs.len())),
        };
        for run in runs.iter() {
            error = error.hint(format!("`ctl attach {run}` follows it, `ctl cancel {run}` cancels it"));
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, raise};

    use super::*;
    use crate::render::{Format, tests::pages};

    #[tokio::test]
    async fn sigterm_detaches_and_names_the_run() {
        let (output, _, _) = pages(Format::Text);
        let (live, started) = (Live::new(&output, &["db-1".to_owned()]), Started::default());
        started.add("db-1-x7k2m9");
        let endless = async {
            raise(Signal::SIGTERM).expect("sent");
            std::future::pending::<()>().await;
        };
        let error = or_detach(endless, &live, &started).await.expect_err("detached");
        assert_eq!(error.kind(), Kind::Detached);
        assert_eq!(error.to_string(), "detached: run db-1-x7k2m9 continues");
        let hint = "`ctl attach db-1-x7k2m9` follows it, `ctl cancel db-1-x7k2m9` cancels it";
        assert_eq!(error.hints(), [hint]);
    }
}
