//! The `Runs` service: starts supervisors and replays their events. It owns no processes and no state, so a restart
//! loses nothing.

use std::{cmp::Reverse, pin::Pin, sync::Arc, time::SystemTime};

use prost::Message;
use proto::{
    MAX_STDIN_BYTES,
    identity::{Role, User},
    pb::{self, RunState, runs_server::Runs, start_request::What},
    run::{apply, is_change, is_over},
};
use tokio::sync::{Mutex, mpsc};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::disk::Disk;
use crate::{
    paths::Paths,
    run::{
        self, Launcher, RunDirectory, retention,
        standing::{Intent, Standing},
        unix_ms,
    },
};

/// Events that may wait for a slow caller, besides those of one read; the rest stays on disk.
const EVENTS_AHEAD: usize = 4;
/// Number of runs that `List` returns by default.
const LIST_DEFAULT: u32 = 20;
/// Maximum number of runs that `List` returns.
const LIST_LIMIT: u32 = 100;

/// The service; clones share one start lock.
#[derive(Clone, Debug)]
pub struct Service {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    paths: Paths,
    launcher: Launcher,
    boot_id: String,
    /// Held from the check for a running apply until the new run exists: one apply at a time.
    starting: Arc<Mutex<()>>,
    /// For read-only calls, which one user may make in large numbers: keeps threads free for other calls, and skips a
    /// call whose caller disconnected while it was waiting.
    looks: Disk,
}

/// The host's current and latest runs.
#[derive(Debug, Default)]
pub struct Overview {
    /// The newest run of any kind that is queued or running.
    pub active: Option<pb::Run>,
    /// The apply that ended last, whatever its outcome. A plan (`--noop`) does not count: it leaves the host as it was.
    pub last_apply: Option<pb::Run>,
}

impl Service {
    /// Runs read-only work as soon as the limit allows.
    ///
    /// # Errors
    /// If the work panics.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.inner.looks.look(work).await
    }

    /// Serves the runs below `paths`, and removes directories that are not runs.
    ///
    /// # Errors
    /// If the kernel's boot id cannot be read.
    pub fn new(paths: Paths, launcher: Launcher) -> Result<Self, run::Error> {
        let boot_id = run::boot_id()?;
        if let Err(error) = RunDirectory::sweep(&paths) {
            tracing::warn!("{error}");
        }
        Ok(Self {
            inner: Arc::new(Inner {
                paths,
                launcher,
                boot_id,
                starting: Arc::default(),
                looks: Disk::default(),
            }),
        })
    }

    /// The outline of the queued or running apply. Blocks on the disk, as does [`Service::overview`].
    ///
    /// # Errors
    /// If the runs cannot be read.
    pub fn active_apply(&self) -> Result<Option<pb::Run>, run::Error> {
        Ok(self.inner.active_apply()?.map(|(_, run)| run))
    }

    /// The outlines of runs that this user may see.
    ///
    /// # Errors
    /// If the runs cannot be read.
    pub fn overview(&self, user: &User) -> Result<Overview, run::Error> {
        let runs = self.inner.outlines()?.into_iter().map(|(_, run)| run).filter(|run| may_see(user, run));
        let (over, active): (Vec<_>, Vec<_>) = runs.partition(|run| is_over(run.state()));
        let applies = over.into_iter().filter(is_change);
        Ok(Overview {
            active: active.into_iter().next(),
            last_apply: applies.max_by_key(|run| run.finished_unix_ms),
        })
    }

    /// Whether any run is queued or running, including private ones. Blocks on the disk.
    ///
    /// # Errors
    /// If the runs cannot be read.
    pub fn has_active(&self) -> Result<bool, run::Error> {
        Ok(self.inner.outlines()?.iter().any(|(_, run)| !is_over(run.state())))
    }

    /// A warning, if the launcher cannot work as it should.
    pub fn degraded(&self) -> Option<&'static str> {
        self.inner.launcher.degraded()
    }
}

impl Inner {
    fn outline(&self, directory: &RunDirectory) -> Result<pb::Run, run::Error> {
        directory.outline(&self.boot_id, unix_ms(SystemTime::now()))
    }

    fn view(&self, directory: &RunDirectory) -> Result<pb::Run, run::Error> {
        directory.look_closer(self.outline(directory)?)
    }

    /// All readable runs, newest first.
    fn outlines(&self) -> Result<Vec<(RunDirectory, pb::Run)>, run::Error> {
        let directories = RunDirectory::all(&self.paths)?.into_iter();
        let mut runs: Vec<_> = directories
            .filter_map(|directory| self.outline(&directory).ok().map(|run| (directory, run)))
            .collect();
        runs.sort_by_cached_key(|(_, run)| Reverse((run.started_unix_ms, run.run_id.clone())));
        Ok(runs)
    }

    /// The newest runs that this user may see.
    fn list(&self, user: &User, limit: usize) -> Result<Vec<pb::Run>, run::Error> {
        let seen = self.outlines()?.into_iter().filter(|(_, run)| may_see(user, run));
        seen.take(limit).map(|(directory, run)| directory.look_closer(run)).collect()
    }

    fn active_apply(&self) -> Result<Option<(RunDirectory, pb::Run)>, run::Error> {
        Ok(self.outlines()?.into_iter().find(|(_, run)| is_apply(run) && !is_over(run.state())))
    }

    fn find(&self, id: &str) -> Result<RunDirectory, Status> {
        RunDirectory::open(&self.paths, id).ok_or_else(|| Status::not_found(format!("there is no run {id}")))
    }

    /// A run that this user may see. Readers do not even learn that a private run exists.
    fn find_for(&self, id: &str, user: &User) -> Result<RunDirectory, Status> {
        let directory = self.find(id)?;
        let intent = directory.intent().map_err(internal)?;
        if intent.run.is_some_and(|run| may_see(user, &run)) { Ok(directory) } else { self.find("") }
    }

    /// Creates a queued run and launches its supervisor. Blocks on the disk and the launcher.
    fn start(&self, user: &User, mut request: pb::StartRequest) -> Result<pb::Run, Status> {
        check(&request)?;
        let stdin = take_stdin(&mut request);
        if let Some(existing) = RunDirectory::open(&self.paths, &request.run_id) {
            return self.existing(&existing, &request);
        }
        if let Some(What::Apply(apply)) = &request.what {
            self.admit(apply)?;
        }
        let run = pb::Run {
            run_id: request.run_id.clone(),
            state: RunState::Queued.into(),
            user: user.name.clone(),
            started_unix_ms: unix_ms(SystemTime::now()),
            request: Some(request),
            ..pb::Run::default()
        };
        let intent = Intent { run: Some(run.clone()), boot_id: self.boot_id.clone() };
        let directory = RunDirectory::create_with_input(&self.paths, &run.run_id, &intent, &stdin);
        let directory = directory.map_err(internal)?;
        self.launcher.launch(&self.paths, &run.run_id).map_err(|error| {
            // A run without a supervisor ends at once, not when its time in the queue is over.
            let ended = not_launched(run.clone(), error.to_string());
            directory.write_result(&ended).err().map_or_else(|| internal(error), internal)
        })?;
        Ok(run)
    }

    fn existing(&self, directory: &RunDirectory, request: &pb::StartRequest) -> Result<pb::Run, Status> {
        let run = self.view(directory).map_err(internal)?;
        if run.request.as_ref() == Some(request) {
            return Ok(run);
        }
        Err(Status::already_exists(format!("run {} exists already, with a different request", run.run_id)))
    }

    /// Checks whether this apply may start now.
    fn admit(&self, apply: &pb::Apply) -> Result<(), Status> {
        if !self.paths.bundle_tree(&apply.bundle).is_dir() {
            return Err(Status::not_found(format!("bundle {} is not on this host", apply.bundle)));
        }
        let Some((directory, holder)) = self.active_apply().map_err(internal)? else { return Ok(()) };
        let holder = directory.look_closer(holder).map_err(internal)?;
        let message = format!("apply {} by {} is running", holder.run_id, holder.user);
        let busy = pb::Busy {
            run_id: holder.run_id,
            user: holder.user,
            started_unix_ms: holder.started_unix_ms,
            resource: holder.resource,
        };
        let details = busy.encode_to_vec().into();
        Err(Status::with_details(tonic::Code::FailedPrecondition, message, details))
    }

    fn retain(&self) -> Result<(), run::Error> {
        let finished = retention::finished(&self.paths, &self.boot_id, unix_ms(SystemTime::now()))?;
        retention::execute(retention::plan(finished, retention::Policy::default()))
    }
}

#[tonic::async_trait]
impl Runs for Service {
    async fn start(&self, request: Request<pb::StartRequest>) -> Result<Response<pb::Run>, Status> {
        let user = caller(&request)?;
        let inner = Arc::clone(&self.inner);
        let alone = Arc::clone(&inner.starting).lock_owned().await;
        let run = blocking(move || {
            // Held here, not by the caller: a caller that disconnects does not stop a start that has begun.
            let _alone = alone;
            inner.start(&user, request.into_inner())
        });
        let run = run.await??;
        let inner = Arc::clone(&self.inner);
        // Whatever cannot be removed now is removed after the next start.
        tokio::task::spawn_blocking(move || inner.retain().map_err(|error| tracing::warn!("{error}")));
        Ok(Response::new(run))
    }

    type AttachStream = Pin<Box<dyn Stream<Item = Result<pb::Event, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<pb::AttachRequest>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let user = caller(&request)?;
        let pb::AttachRequest { run_id, offset } = request.into_inner();
        let inner = Arc::clone(&self.inner);
        let directory = self.look(move || {
            let directory = inner.find_for(&run_id, &user)?;
            let size = directory.events().metadata().map_or(0, |metadata| metadata.len());
            if offset > size {
                return Err(Status::out_of_range(format!("run {run_id} has only {size} bytes of events")));
            }
            Ok(directory)
        });
        let directory = directory.await??;
        let boot_id = self.inner.boot_id.clone();
        let (to, events) = mpsc::channel(EVENTS_AHEAD);
        tokio::spawn(async move {
            if let Err(error) = run::follow::follow(directory, offset, boot_id, &to).await {
                let _ = to.send(Err(error)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(events).map(|event| event.map_err(internal)))))
    }

    async fn cancel(&self, request: Request<pb::CancelRequest>) -> Result<Response<pb::Run>, Status> {
        let user = caller(&request)?;
        let inner = Arc::clone(&self.inner);
        let run = blocking(move || {
            let directory = inner.find(&request.get_ref().run_id)?;
            let standing = directory.standing(&inner.boot_id, unix_ms(SystemTime::now()));
            if let Standing::Queued | Standing::Active = standing.map_err(internal)? {
                directory.request_cancel(&user.name).map_err(internal)?;
            }
            inner.view(&directory).map_err(internal)
        });
        Ok(Response::new(run.await??))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::Run>, Status> {
        let user = caller(&request)?;
        let inner = Arc::clone(&self.inner);
        let run = self.look(move || {
            let directory = inner.find_for(&request.get_ref().run_id, &user)?;
            inner.view(&directory).map_err(internal)
        });
        Ok(Response::new(run.await??))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListReply>, Status> {
        let user = caller(&request)?;
        let limit = match request.get_ref().limit {
            0 => LIST_DEFAULT,
            limit => limit.min(LIST_LIMIT),
        };
        let inner = Arc::clone(&self.inner);
        let runs = self.look(move || inner.list(&user, limit as usize).map_err(internal)).await??;
        Ok(Response::new(pb::ListReply { runs }))
    }
}

/// Runs blocking work away from the threads that serve connections.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Status::internal(error.to_string()))
}

/// The user who calls; the listener takes it from the certificate.
pub(super) fn caller<T>(request: &Request<T>) -> Result<User, Status> {
    let user = request.extensions().get::<User>().cloned();
    user.ok_or_else(|| Status::unauthenticated("the caller is unknown"))
}

fn check(request: &pb::StartRequest) -> Result<(), Status> {
    let invalid = |why: &str| Err(Status::invalid_argument(why));
    if !run::is_run_id(&request.run_id) {
        return invalid("a run id is 1 to 64 characters of [a-z0-9-]");
    }
    match &request.what {
        None => invalid("the request has neither an apply nor a command"),
        Some(What::Command(command)) if command.argv.first().is_none_or(String::is_empty) => {
            invalid("the command is empty")
        }
        Some(What::Command(command)) if command.stdin.len() > MAX_STDIN_BYTES => {
            invalid("the command's standard input is too long")
        }
        Some(What::Apply(apply)) if !is_digest(&apply.bundle) => {
            invalid("a bundle's name is 64 lower-case hex digits")
        }
        Some(What::Apply(apply)) if !is_word(&apply.environment) => {
            invalid("an environment's name may contain only letters, digits and _")
        }
        Some(What::Apply(apply)) if !is_commit(&apply.commit) => {
            invalid("a commit's name is up to 64 lower-case hex digits, optionally followed by +")
        }
        Some(What::Apply(apply)) if apply.tags.iter().any(|tag| tag.is_empty() || tag.contains(',')) => {
            invalid("a tag must not be empty or contain a comma")
        }
        Some(_) => Ok(()),
    }
}

/// Removes the standard input from a request and keeps its length: requests are displayed and compared.
fn take_stdin(request: &mut pb::StartRequest) -> Vec<u8> {
    let Some(What::Command(command)) = &mut request.what else { return Vec::new() };
    command.stdin_bytes = command.stdin.len() as u64;
    std::mem::take(&mut command.stdin)
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_commit(text: &str) -> bool {
    let digits = text.strip_suffix('+').unwrap_or(text);
    digits.len() <= 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether Puppet runs, also for a plan: one at a time.
fn is_apply(run: &pb::Run) -> bool {
    apply(run).is_some()
}

fn may_see(user: &User, run: &pb::Run) -> bool {
    user.role >= Role::Operator || !run.request.as_ref().is_some_and(|request| request.private)
}

fn not_launched(mut run: pb::Run, failure: String) -> pb::Run {
    run.set_state(RunState::Failed);
    run.finished_unix_ms = run.started_unix_ms;
    run.summary = Some(pb::Summary { failure, ..pb::Summary::default() });
    run
}

fn internal(error: run::Error) -> Status {
    Status::internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use super::*;

    /// The only thread for blocking work is busy, so the start has begun but cannot finish.
    #[test]
    fn a_start_whose_caller_hangs_up_still_keeps_others_waiting() {
        let root = tempfile::tempdir().unwrap();
        let launcher = Launcher::Direct { agent: "/bin/true".into() };
        let service = Service::new(Paths::new(root.path()), launcher).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (free, taken) = std::sync::mpsc::channel::<()>();
            let blocker = tokio::task::spawn_blocking(move || taken.recv());
            let argv = vec!["/bin/true".to_owned()];
            let what = Some(What::Command(pb::Command { argv, ..pb::Command::default() }));
            let request = pb::StartRequest { run_id: "r-1".into(), what, ..pb::StartRequest::default() };
            let mut request = Request::new(request);
            request.extensions_mut().insert(User { name: "alice".into(), role: Role::Operator });
            let mut start = service.start(request);
            assert!(poll_fn(|context| Poll::Ready(start.as_mut().poll(context))).await.is_pending());
            drop(start);
            assert!(service.inner.starting.try_lock().is_err());
            free.send(()).unwrap();
            blocker.await.unwrap().unwrap();
            drop(service.inner.starting.lock().await);
            assert!(RunDirectory::open(&service.inner.paths, "r-1").is_some());
        });
    }
}
