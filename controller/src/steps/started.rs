//! Tracks the runs that a command has started, so that Ctrl-C can detach and print how to follow them.

use std::sync::{Arc, Mutex, PoisonError};

use proto::pb;
use tokio::signal;
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

/// Waits for the work or for Ctrl-C. On Ctrl-C, detaches: the runs continue, and the error says how to follow them.
pub(crate) async fn or_detach<T>(work: impl Future<Output = T>, live: &Live, started: &Started) -> Result<T> {
    tokio::select! {
        done = work => Ok(done),
        _ = signal::ctrl_c() => {
            live.finish();
            Err(started.detached())
        }
    }
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
