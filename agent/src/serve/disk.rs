//! Limits the threads that read the record, however many clients ask, so that threads remain for calls that act.

use std::sync::Arc;

use tokio::{sync::Semaphore, task::spawn_blocking};
use tonic::Status;

/// Maximum number of concurrent reads.
const LOOKS: usize = 4;

/// The limit for readers; clones share it.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Semaphore>);

impl Default for Disk {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOKS)))
    }
}

impl Disk {
    /// Runs `work` on a blocking thread as soon as the limit allows. The work must finish without waiting for a caller.
    ///
    /// # Errors
    /// If the work panics.
    pub async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let done = spawn_blocking(move || {
            // The work holds its turn, because it continues even if the caller disconnects.
            let _turn = turn;
            work()
        });
        done.await.map_err(|panic| Status::internal(panic.to_string()))
    }
}
