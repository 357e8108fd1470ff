//! Runs a task on many hosts in parallel, up to a limit. Results keep the given order; a failure does not stop the
//! others.

use std::{future::Future, sync::Arc};

use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    error::{Error, Kind, Result},
    provider::Host,
};

/// Maximum number of hosts worked on at the same time.
const AT_ONCE: usize = 20;

/// Calls `work` for every host and returns the results in the order of `hosts`.
pub(crate) async fn each<T, F, W>(hosts: Vec<Host>, mut work: W) -> Vec<(Host, Result<T>)>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
    W: FnMut(Host) -> F,
{
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (index, host) in hosts.iter().cloned().enumerate() {
        let (permits, future) = (Arc::clone(&permits), work(host));
        tasks.spawn(async move {
            let _permit = permits.acquire().await;
            (index, future.await)
        });
    }
    let mut results: Vec<Option<Result<T>>> = hosts.iter().map(|_| None).collect();
    while let Some(joined) = tasks.join_next().await {
        if let Ok((index, result)) = joined {
            results[index] = Some(result);
        }
    }
    let lost = || Err(Error::new(Kind::Interrupted, "the task for this host crashed"));
    hosts.into_iter().zip(results).map(|(host, result)| (host, result.unwrap_or_else(lost))).collect()
}

/// Combines all failures into one error, with the kind and hints of the first; `Ok` if there are none.
pub(crate) fn sum(mut failures: Vec<(Host, Error)>) -> Result<()> {
    match failures.len() {
        0 => Ok(()),
        1 => {
            let (host, error) = failures.remove(0);
            Err(error.context_once(&host.name))
        }
        count => {
            let lines: Vec<_> =
                failures.iter().map(|(host, error)| format!("  {}: {error}", host.name)).collect();
            let (_, first) = failures.remove(0);
            let sum = Error::new(first.kind(), format!("{count} hosts failed:\n{}", lines.join("\n")));
            Err(first.hints().iter().fold(sum, Error::hint))
        }
    }
}

/// The answers by host name, and the hosts that failed.
pub(crate) type Split<T> = (Vec<(String, T)>, Vec<(Host, Error)>);

/// Separates answers from failures.
pub(crate) fn split<T>(results: Vec<(Host, Result<T>)>) -> Split<T> {
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    for (host, result) in results {
        match result {
            Ok(answer) => answers.push((host.name, answer)),
            Err(error) => failures.push((host, error)),
        }
    }
    (answers, failures)
}
