//! Looking at the record takes few threads, however many ask: the others stay free for those who act.

use std::sync::Arc;

use tokio::{sync::Semaphore, task::spawn_blocking};
use tonic::Status;

/// Looks at once.
const LOOKS: usize = 4;

/// The turns of those who look; clones share them.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Semaphore>);

impl Default for Disk {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOKS)))
    }
}

impl Disk {
    /// Does one piece of work when it is its turn, away from the threads that serve connections. It must end by itself:
    /// who waits for a caller does not wait here.
    ///
    /// # Errors
    /// The work panicked.
    pub async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let done = spawn_blocking(move || {
            // Held by the work: it goes on when who asked for it has gone.
            let _turn = turn;
            work()
        });
        done.await.map_err(|panic| Status::internal(panic.to_string()))
    }
}
