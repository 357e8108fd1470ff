//! One thing on many hosts at once: bounded, in the order given, never stopped by the first failure.

use std::{future::Future, sync::Arc};

use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    error::{Error, Kind, Result},
    provider::Host,
};

/// Hosts worked on at the same time.
const AT_ONCE: usize = 20;

/// Calls `work` for every host and returns the results in the order of `hosts`.
pub async fn each<T, F, W>(hosts: Vec<Host>, mut work: W) -> Vec<(Host, Result<T>)>
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
    let lost = || Err(Error::new(Kind::Interrupted, "the task for this host ended early"));
    hosts.into_iter().zip(results).map(|(host, result)| (host, result.unwrap_or_else(lost))).collect()
}

/// One error for all hosts that failed, with the kind and the hints of the first; `Ok` if none did.
pub fn sum(mut failures: Vec<(Host, Error)>) -> Result<()> {
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

/// What those said that answered, and why the others did not.
pub type Split<T> = (Vec<(String, T)>, Vec<(Host, Error)>);

/// Separates answers from failures.
pub fn split<T>(results: Vec<(Host, Result<T>)>) -> Split<T> {
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    for (host, result) in results {
        match result {
            Ok(answer) => answers.push((host.name, answer)),
            Err(error) => failures.push((host, error)),
        }
    }
    (answers, failures)
}
