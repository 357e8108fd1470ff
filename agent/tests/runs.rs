//! Runs from a caller's point of view: the service over a loopback connection, real supervisors, real processes.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, SystemTime},
};

use agent::{
    paths::Paths,
    run::{Launcher, RunDirectory, standing::Intent},
    serve::runs::Service,
};
use prost::Message;
use proto::{
    MAX_STDIN_BYTES,
    identity::{Role, User},
    pb::{self, RunState, event::What, runs_client::RunsClient, runs_server::RunsServer, start_request},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Status,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint, Server},
};

const LIMIT: Duration = Duration::from_secs(30);

struct Host {
    root: TempDir,
    paths: Paths,
    server: JoinHandle<()>,
    client: RunsClient<Channel>,
}

impl Host {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        let (server, client) = serve(&paths, Role::Operator).await;
        Self { root, paths, server, client }
    }

    /// Simulates a restart of `agent serve`.
    async fn restart(&mut self) {
        self.server.abort();
        (self.server, self.client) = serve(&self.paths, Role::Operator).await;
    }

    async fn command(&mut self, id: &str, script: &str) -> Result<pb::Run, Status> {
        self.start(id, shell(script)).await
    }

    async fn start(&mut self, id: &str, what: start_request::What) -> Result<pb::Run, Status> {
        let request = pb::StartRequest { run_id: id.into(), what: Some(what), ..pb::StartRequest::default() };
        self.client.start(request).await.map(tonic::Response::into_inner)
    }

    async fn get(&mut self, id: &str) -> pb::Run {
        self.client.get(pb::GetRequest { run_id: id.into() }).await.unwrap().into_inner()
    }

    async fn events(&mut self, id: &str, offset: u64) -> Vec<pb::Event> {
        self.events_until(id, offset, |_| false).await
    }

    /// The events up to the first that satisfies the condition, or all events.
    async fn events_until(
        &mut self,
        id: &str,
        offset: u64,
        enough: impl Fn(&pb::Event) -> bool,
    ) -> Vec<pb::Event> {
        let request = pb::AttachRequest { run_id: id.into(), offset };
        let mut stream = self.client.attach(request).await.unwrap().into_inner();
        let mut events = Vec::new();
        while let Some(event) = timeout(LIMIT, stream.message()).await.expect("an event in time").unwrap() {
            events.push(event);
            if events.last().is_some_and(&enough) {
                break;
            }
        }
        events
    }

    /// A queued run of bob's without a supervisor.
    fn queued(&self, id: &str, started_unix_ms: i64, what: start_request::What) -> RunDirectory {
        let request = pb::StartRequest { run_id: id.into(), what: Some(what), ..pb::StartRequest::default() };
        self.queue(started_unix_ms, request)
    }

    /// Same as `queued`, but private.
    fn queued_privately(&self, id: &str, started_unix_ms: i64, what: start_request::What) -> RunDirectory {
        let request = pb::StartRequest {
            run_id: id.into(),
            what: Some(what),
            private: true,
            ..pb::StartRequest::default()
        };
        self.queue(started_unix_ms, request)
    }

    fn queue(&self, started_unix_ms: i64, request: pb::StartRequest) -> RunDirectory {
        let id = request.run_id.clone();
        let run = pb::Run {
            run_id: id.clone(),
            user: "bob".into(),
            started_unix_ms,
            request: Some(request),
            ..pb::Run::default()
        };
        let intent = Intent { run: Some(run), boot_id: agent::run::boot_id().unwrap() };
        RunDirectory::create(&self.paths, &id, &intent).unwrap()
    }

    fn bundle(&self) -> String {
        let digest = "ab".repeat(32);
        fs::create_dir_all(self.paths.bundle_tree(&digest).join("manifests")).unwrap();
        digest
    }
}

fn shell(script: &str) -> start_request::What {
    let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    start_request::What::Command(pb::Command { argv, ..pb::Command::default() })
}

fn now_unix_ms() -> i64 {
    agent::run::unix_ms(SystemTime::now())
}

fn service(paths: &Paths) -> Service {
    let launcher = Launcher::Direct { agent: PathBuf::from(env!("CARGO_BIN_EXE_agent")) };
    Service::new(paths.clone(), launcher).unwrap()
}

async fn serve(paths: &Paths, role: Role) -> (JoinHandle<()>, RunsClient<Channel>) {
    let service = service(paths);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let known = move |mut request: Request<()>| {
        request.extensions_mut().insert(User { name: "alice".into(), role });
        Ok::<_, Status>(request)
    };
    let runs = RunsServer::new(service).max_decoding_message_size(2 * MAX_STDIN_BYTES);
    let server = Server::builder().add_service(InterceptedService::new(runs, known));
    let server = tokio::spawn(async move {
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    (server, RunsClient::new(channel))
}

fn output(events: &[pb::Event], wanted: u32) -> String {
    let bytes = events.iter().filter_map(|event| match &event.what {
        Some(What::Output(output)) if output.fd == wanted => Some(output.data.clone()),
        _ => None,
    });
    String::from_utf8(bytes.flatten().collect()).unwrap()
}

fn summary(events: &[pb::Event]) -> &pb::Summary {
    match events.last().and_then(|event| event.what.as_ref()) {
        Some(What::Summary(summary)) => summary,
        other => panic!("the last event is {other:?}"),
    }
}

fn states(events: &[pb::Event]) -> Vec<RunState> {
    let states = events.iter().filter_map(|event| match event.what {
        Some(What::State(state)) => RunState::try_from(state).ok(),
        _ => None,
    });
    states.collect()
}

fn has_output(event: &pb::Event) -> bool {
    matches!(event.what, Some(What::Output(_)))
}

/// The process that a script named with `echo $$`.
fn named_process(events: &[pb::Event]) -> procfs::process::Process {
    let pid = output(events, 1).lines().next().unwrap().parse().unwrap();
    procfs::process::Process::new(pid).unwrap()
}

fn is_running(process: &procfs::process::Process) -> bool {
    process.stat().is_ok_and(|stat| stat.state != 'Z')
}

#[tokio::test]
async fn a_command_yields_its_output_and_exit_code() {
    let mut host = Host::new().await;
    host.command("r-1", "echo out; echo err >&2; exit 3").await.unwrap();
    let events = host.events("r-1", 0).await;
    assert_eq!((output(&events, 1).as_str(), output(&events, 2).as_str()), ("out\n", "err\n"));
    assert_eq!(states(&events), [RunState::Preparing, RunState::Running, RunState::Failed]);
    assert_eq!((summary(&events).exit_code, summary(&events).failure.as_str()), (3, "/bin/sh exited with 3"));
    let run = host.get("r-1").await;
    assert_eq!((run.state(), run.user.as_str()), (RunState::Failed, "alice"));
    assert!(run.finished_unix_ms >= run.started_unix_ms);
    assert_eq!(run.summary.as_ref(), Some(summary(&events)));
}

#[tokio::test]
async fn killed_and_missing_commands_have_the_shells_exit_codes() {
    let mut host = Host::new().await;
    host.command("r-1", "kill -9 $$").await.unwrap();
    let events = host.events("r-1", 0).await;
    assert_eq!(summary(&events).exit_code, 137);
    let failure = &summary(&events).failure;
    // The run has no unit here, so the kernel has no count for the run alone.
    assert!(failure.starts_with("/bin/sh was killed by signal 9 (SIGKILL); cause unknown: "), "{failure}");
    let argv = vec!["/no/such/program".to_owned()];
    host.start("r-2", start_request::What::Command(pb::Command { argv, ..pb::Command::default() }))
        .await
        .unwrap();
    let events = host.events("r-2", 0).await;
    assert_eq!(summary(&events).exit_code, 127);
    assert!(summary(&events).failure.contains("/no/such/program"));
}

#[tokio::test]
async fn a_high_exit_code_is_not_a_signal() {
    let mut host = Host::new().await;
    host.command("r-1", "exit 255").await.unwrap();
    let events = host.events("r-1", 0).await;
    assert_eq!(
        (summary(&events).exit_code, summary(&events).failure.as_str()),
        (255, "/bin/sh exited with 255")
    );
}

#[tokio::test]
async fn a_flood_of_output_waits_in_the_child_and_not_in_the_supervisors_memory() {
    let mut host = Host::new().await;
    let peak = host.root.path().join("peak");
    // The supervisor is the script's parent.
    let script = format!("head -c 300M /dev/zero; grep VmHWM /proc/$PPID/status > {}", peak.display());
    host.command("r-1", &script).await.unwrap();
    assert_eq!(summary(&host.events("r-1", 0).await).exit_code, 0);
    let kilobytes: u64 =
        fs::read_to_string(peak).unwrap().split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kilobytes < 64 << 10, "{kilobytes} KiB");
}

#[tokio::test]
async fn any_offset_replays_exactly_what_came_after() {
    let mut host = Host::new().await;
    host.command("r-1", "for n in 1 2 3 4 5; do echo $n; done").await.unwrap();
    let whole = host.events("r-1", 0).await;
    for (n, event) in whole.iter().enumerate().take(whole.len() - 1) {
        assert_eq!(host.events("r-1", event.next_offset).await, whole[n + 1..]);
    }
    let past = pb::AttachRequest { run_id: "r-1".into(), offset: 1 << 40 };
    assert_eq!(host.client.attach(past).await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test]
async fn starting_twice_runs_once() {
    let mut host = Host::new().await;
    let mark = host.root.path().join("mark");
    let script = format!("echo once >> {}", mark.display());
    host.command("r-1", &script).await.unwrap();
    host.events("r-1", 0).await;
    assert_eq!(host.command("r-1", &script).await.unwrap().state(), RunState::Succeeded);
    assert_eq!(host.command("r-1", "true").await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(fs::read_to_string(mark).unwrap(), "once\n");
}

#[tokio::test]
async fn cancel_leaves_no_process_behind_not_even_one_in_its_own_session() {
    let mut host = Host::new().await;
    host.command("r-1", "setsid sh -c 'echo $$; exec sleep 1000' & wait").await.unwrap();
    let seen = host.events_until("r-1", 0, has_output).await;
    let sleep = named_process(&seen);
    assert!(is_running(&sleep));
    host.client.cancel(pb::CancelRequest { run_id: "r-1".into() }).await.unwrap();
    let rest = host.events("r-1", seen.last().unwrap().next_offset).await;
    assert_eq!(states(&rest), [RunState::Cancelled]);
    assert!(!is_running(&sleep));
    let run = host.get("r-1").await;
    let wanted = pb::Summary {
        exit_code: 143,
        failure: "the run was cancelled by alice".into(),
        ..Default::default()
    };
    let summary = pb::Summary { duration_ms: 0, ..run.summary.clone().unwrap() };
    assert_eq!((run.state(), summary), (RunState::Cancelled, wanted));
}

#[tokio::test]
async fn processes_left_running_continue_and_are_named_even_if_they_keep_the_output_open() {
    let mut host = Host::new().await;
    host.command("r-1", "sleep 1000 & echo $!").await.unwrap();
    let events = timeout(LIMIT, host.events("r-1", 0)).await.unwrap();
    let sleep = named_process(&events);
    let (summary, name) = (summary(&events), format!("sleep ({})", sleep.pid()));
    assert_eq!((summary.exit_code, summary.left_running, summary.left.as_slice()), (0, 1, &[name][..]));
    assert!(is_running(&sleep));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(sleep.pid()), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    // A process that ends a moment later does not count.
    host.command("r-2", "sleep 0.02 & true").await.unwrap();
    assert_eq!(self::summary(&host.events("r-2", 0).await).left_running, 0);
}

#[tokio::test]
async fn a_command_reads_its_input_which_leaves_no_trace() {
    let mut host = Host::new().await;
    let stdin = b"one\0two\xff".repeat(100_000);
    let what = |stdin: &[u8]| {
        let argv = ["/bin/sh", "-c", "sha256sum; ls -l /proc/self/fd/0 >&2"].map(str::to_owned).to_vec();
        start_request::What::Command(pb::Command { argv, stdin: stdin.to_vec(), stdin_bytes: 0 })
    };
    let run = host.start("r-1", what(&stdin)).await.unwrap();
    let Some(start_request::What::Command(command)) = run.request.unwrap().what else { panic!("a command") };
    assert_eq!((command.stdin.len(), command.stdin_bytes), (0, stdin.len() as u64));
    let events = host.events("r-1", 0).await;
    let digest = proto::bundle::Digest::of(&stdin);
    assert_eq!(output(&events, 1), format!("{digest}  -\n"));
    assert!(output(&events, 2).contains("(deleted)"), "{events:?}");
    assert!(!host.paths.run("r-1").join("stdin").exists());
    // Repeating the request returns the same run; longer input is refused.
    assert_eq!(host.start("r-1", what(&stdin)).await.unwrap().state(), RunState::Succeeded);
    let long = host.start("r-2", what(&vec![0; MAX_STDIN_BYTES + 1])).await.unwrap_err();
    assert_eq!(long.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn output_beyond_the_limit_fails_the_command_however_it_ended() {
    let mut host = Host::new().await;
    let request = |id: &str, script: &str| pb::StartRequest {
        run_id: id.into(),
        what: Some(shell(script)),
        output_limit_bytes: 1_000,
        ..pb::StartRequest::default()
    };
    host.client.start(request("r-1", "head -c 5000 /dev/zero; sleep 0.1; echo more")).await.unwrap();
    let events = host.events("r-1", 0).await;
    assert_eq!(states(&events).last(), Some(&RunState::Failed));
    let summary = summary(&events);
    assert_eq!((output(&events, 1).len(), summary.exit_code, summary.dropped_bytes), (1_000, 0, 4_005));
    assert_eq!(summary.failure, "the output was cut at its limit of 1000 B: 3.9 KiB were dropped");
    host.client.start(request("r-2", "echo short; exit 3")).await.unwrap();
    assert_eq!(self::summary(&host.events("r-2", 0).await).failure, "/bin/sh exited with 3");
    let both = "head -c 600 /dev/zero; head -c 600 /dev/zero >&2; exit 3";
    host.client.start(request("r-3", both)).await.unwrap();
    let events = host.events("r-3", 0).await;
    let (kept, summary) = (output(&events, 1).len() + output(&events, 2).len(), self::summary(&events));
    assert_eq!((kept, summary.dropped_bytes), (1_000, 200), "both streams share the limit");
    let failure = "/bin/sh exited with 3; the output was cut at its limit of 1000 B: 200 B were dropped";
    assert_eq!(summary.failure, failure);
    host.client.start(request("r-4", "head -c 1000 /dev/zero")).await.unwrap();
    assert_eq!(states(&host.events("r-4", 0).await).last(), Some(&RunState::Succeeded));
}

/// Without any inotify instance, which is limited for each user (here: for each user namespace).
#[tokio::test]
async fn a_run_is_followed_and_cancelled_where_nothing_can_be_watched() {
    let mut host = Host::new().await;
    host.queued("r-1", now_unix_ms(), shell("echo $$; exec sleep 1000"));
    let script = format!(
        "echo 0 > /proc/sys/user/max_inotify_instances && exec {} run r-1 --root {}",
        env!("CARGO_BIN_EXE_agent"),
        host.root.path().display()
    );
    let mut supervisor = Command::new("unshare").args(["-r", "sh", "-c", &script]).spawn().unwrap();
    let seen = host.events_until("r-1", 0, has_output).await;
    let told = seen.iter().any(|event| {
        matches!(&event.what, Some(What::Log(log)) if log.message.ends_with("polling every 100 ms instead"))
    });
    assert!(told, "{seen:?}");
    host.client.cancel(pb::CancelRequest { run_id: "r-1".into() }).await.unwrap();
    assert_eq!(states(&host.events("r-1", seen.last().unwrap().next_offset).await), [RunState::Cancelled]);
    assert!(tokio::task::spawn_blocking(move || supervisor.wait().unwrap().success()).await.unwrap());
}

#[tokio::test]
async fn a_process_that_ignores_term_is_killed_after_the_grace_period() {
    let mut host = Host::new().await;
    host.command("r-1", "trap '' TERM; echo $$; while :; do sleep 1000; done").await.unwrap();
    let seen = host.events_until("r-1", 0, has_output).await;
    let deaf = named_process(&seen);
    host.client.cancel(pb::CancelRequest { run_id: "r-1".into() }).await.unwrap();
    assert_eq!(states(&host.events("r-1", seen.last().unwrap().next_offset).await), [RunState::Cancelled]);
    assert!(!is_running(&deaf));
}

#[tokio::test]
async fn a_process_that_ignores_term_and_never_stops_writing_is_killed() {
    let mut host = Host::new().await;
    host.command("r-1", "trap '' TERM; echo $$; exec yes").await.unwrap();
    let seen = host.events_until("r-1", 0, has_output).await;
    host.client.cancel(pb::CancelRequest { run_id: "r-1".into() }).await.unwrap();
    let rest = timeout(LIMIT, host.events("r-1", seen.last().unwrap().next_offset)).await.unwrap();
    assert_eq!(states(&rest), [RunState::Cancelled]);
}

#[tokio::test]
async fn a_restart_of_serve_loses_nothing() {
    let mut host = Host::new().await;
    let go = host.root.path().join("go");
    let fifo = Command::new("mkfifo").arg(&go).status().unwrap();
    assert!(fifo.success());
    host.command("r-1", &format!("echo before; cat {}; echo after", go.display())).await.unwrap();
    let seen = host.events_until("r-1", 0, has_output).await;
    host.restart().await;
    assert_eq!(host.get("r-1").await.state(), RunState::Running);
    tokio::task::spawn_blocking(move || fs::write(go, "while away\n").unwrap()).await.unwrap();
    let rest = host.events("r-1", seen.last().unwrap().next_offset).await;
    assert_eq!(output(&rest, 1), "while away\nafter\n");
    assert_eq!(host.get("r-1").await.state(), RunState::Succeeded);
}

#[tokio::test]
async fn a_killed_supervisor_leaves_an_interrupted_run_that_is_not_run_again() {
    // One write, so that both ids are in one event.
    const SCRIPT: &str = "echo $PPID $$; exec sleep 1000";
    let mut host = Host::new().await;
    host.command("r-1", SCRIPT).await.unwrap();
    let seen = host.events_until("r-1", 0, has_output).await;
    let pids: Vec<i32> = output(&seen, 1).split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    for pid in &pids {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    let rest = host.events("r-1", seen.last().unwrap().next_offset).await;
    assert_eq!(states(&rest), [RunState::Interrupted]);
    let again = host.command("r-1", SCRIPT).await.unwrap();
    assert_eq!(again.state(), RunState::Interrupted);
    assert!(again.summary.unwrap().failure.contains("supervisor"));
    let agent = env!("CARGO_BIN_EXE_agent");
    let refused = Command::new(agent).args(["run", "r-1", "--root"]).arg(host.root.path()).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot start"), "{refused:?}");
}

#[tokio::test]
async fn a_full_disk_loses_events_but_neither_later_ones_nor_the_result() {
    let mut host = Host::new().await;
    // A file size limit simulates the full disk: it cuts writes in the same way. The script itself raises the limit.
    let script = "head -c 100000 /dev/zero; prlimit --fsize=unlimited --pid $PPID; echo after";
    let directory = host.queued("r-1", now_unix_ms(), shell(script));
    let limited = format!(
        "ulimit -S -f 64; trap '' XFSZ; exec {} run r-1 --root {}",
        env!("CARGO_BIN_EXE_agent"),
        host.root.path().display()
    );
    assert!(Command::new("bash").args(["-c", &limited]).status().unwrap().success());
    let events = host.events("r-1", 0).await;
    let before = output(&events, 1).strip_suffix("after\n").unwrap().len();
    assert!((1..64 << 10).contains(&before), "{before} bytes before the limit");
    let told = events.iter().any(
        |event| matches!(&event.what, Some(What::Log(log)) if log.message.contains("events were lost here")),
    );
    assert!(told, "{events:?}");
    assert_eq!(directory.result().unwrap().unwrap().summary.as_ref(), Some(summary(&events)));
    assert_eq!(summary(&events).exit_code, 0);
}

#[tokio::test]
async fn a_supervisor_that_cannot_even_begin_leaves_a_result() {
    let mut host = Host::new().await;
    let directory = host.queued("r-1", now_unix_ms(), shell("true"));
    fs::write(directory.puppet(), "in the way").unwrap();
    let agent = env!("CARGO_BIN_EXE_agent");
    Command::new(agent).args(["run", "r-1", "--root"]).arg(host.root.path()).status().unwrap();
    let run = host.get("r-1").await;
    assert_eq!(run.state(), RunState::Failed);
    assert!(run.summary.as_ref().unwrap().failure.contains("cannot make"), "{run:?}");
    assert_eq!(host.events("r-1", 0).await.last().unwrap().what, run.summary.map(What::Summary));
}

#[tokio::test]
async fn a_refused_second_apply_learns_who_is_applying() {
    let mut host = Host::new().await;
    let apply = pb::Apply { bundle: host.bundle(), environment: "production".into(), ..pb::Apply::default() };
    // An apply whose lock is held as if by a supervisor.
    let directory = host.queued("r-1", 77, start_request::What::Apply(apply.clone()));
    let held = directory.hold().unwrap();
    let refused = host.start("r-2", start_request::What::Apply(apply.clone())).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let busy = pb::Busy::decode(refused.details()).unwrap();
    assert_eq!((busy.run_id.as_str(), busy.user.as_str(), busy.started_unix_ms), ("r-1", "bob", 77));
    host.command("r-3", "true").await.unwrap();
    assert_eq!(summary(&host.events("r-3", 0).await).exit_code, 0);
    drop(held);
}

#[tokio::test]
async fn a_plan_is_not_the_last_apply_but_no_apply_starts_during_one() {
    let mut host = Host::new().await;
    let (service, bundle) = (service(&host.paths), host.bundle());
    let apply = |noop| {
        let (bundle, environment) = (bundle.clone(), "production".to_owned());
        start_request::What::Apply(pb::Apply { bundle, environment, noop, ..pb::Apply::default() })
    };
    let end = |directory: &RunDirectory, state: RunState, finished_unix_ms: i64| {
        let mut run = directory.intent().unwrap().run.unwrap();
        run.set_state(state);
        run.finished_unix_ms = finished_unix_ms;
        directory.write_result(&run).unwrap();
    };
    let last_apply = || {
        let user = User { name: "carol".into(), role: Role::Reader };
        service.overview(&user).unwrap().last_apply.map(|run| run.run_id)
    };
    end(&host.queued("r-1", 1, apply(true)), RunState::Succeeded, 10);
    assert_eq!(last_apply(), None);
    end(&host.queued("r-2", 2, apply(false)), RunState::Failed, 20);
    end(&host.queued("r-3", 3, apply(true)), RunState::Succeeded, 30);
    assert_eq!(last_apply().as_deref(), Some("r-2"));
    let plan = host.queued("r-4", 4, apply(true));
    let held = plan.hold().unwrap();
    let refused = host.start("r-5", apply(false)).await.unwrap_err();
    let busy = pb::Busy::decode(refused.details()).unwrap();
    assert_eq!((refused.code(), busy.run_id.as_str()), (Code::FailedPrecondition, "r-4"));
    drop(held);
}

#[tokio::test]
async fn invalid_requests_are_refused_before_anything_is_created() {
    let mut host = Host::new().await;
    let bundle = host.bundle();
    let apply = |bundle: &str, environment: &str| {
        let (bundle, environment) = (bundle.to_owned(), environment.to_owned());
        start_request::What::Apply(pb::Apply { bundle, environment, ..pb::Apply::default() })
    };
    let cases = [
        (host.command("../r", "true").await, Code::InvalidArgument),
        (host.command("-rf", "true").await, Code::InvalidArgument),
        (host.start("r-1", apply("../../etc", "production")).await, Code::InvalidArgument),
        (host.start("r-1", apply(&bundle, "a-b")).await, Code::InvalidArgument),
        (host.start("r-1", apply(&"cd".repeat(32), "production")).await, Code::NotFound),
        (
            host.start("r-1", start_request::What::Command(pb::Command::default())).await,
            Code::InvalidArgument,
        ),
    ];
    for (result, code) in cases {
        assert_eq!(result.unwrap_err().code(), code);
    }
    assert!(RunDirectory::all(&host.paths).unwrap().is_empty());
}

#[tokio::test]
async fn the_overview_hides_private_runs_from_readers_and_needs_no_spool() {
    let host = Host::new().await;
    let service = service(&host.paths);
    let user = |role| User { name: "carol".into(), role };
    let active = |role| service.overview(&user(role)).unwrap().active.map(|run| run.run_id);
    let public = host.queued("r-1", now_unix_ms() - 1, shell("true"));
    let private = host.queued_privately("r-2", now_unix_ms(), shell("true"));
    let held = (public.hold().unwrap(), private.hold().unwrap());
    fs::create_dir(public.events()).unwrap();
    assert_eq!(active(Role::Reader).as_deref(), Some("r-1"));
    assert_eq!(active(Role::Operator).as_deref(), Some("r-2"));
    let apply = pb::Apply { environment: "production".into(), ..pb::Apply::default() };
    let apply = host.queued_privately("r-3", now_unix_ms(), start_request::What::Apply(apply));
    let mut ended = apply.intent().unwrap().run.unwrap();
    ended.set_state(RunState::Changed);
    apply.write_result(&ended).unwrap();
    let last = |role| service.overview(&user(role)).unwrap().last_apply.map(|run| run.run_id);
    assert_eq!((last(Role::Reader), last(Role::Operator)), (None, Some("r-3".into())));
    drop(held);
}

#[tokio::test]
async fn readers_do_not_see_private_runs() {
    let mut host = Host::new().await;
    let request = pb::StartRequest {
        run_id: "r-1".into(),
        what: Some(shell("echo secret")),
        private: true,
        ..pb::StartRequest::default()
    };
    host.client.start(request).await.unwrap();
    host.command("r-2", "true").await.unwrap();
    host.events("r-1", 0).await;
    host.events("r-2", 0).await;
    let (server, mut reader) = serve(&host.paths, Role::Reader).await;
    let ids = |reply: pb::ListReply| reply.runs.into_iter().map(|run| run.run_id).collect::<Vec<_>>();
    assert_eq!(ids(reader.list(pb::ListRequest::default()).await.unwrap().into_inner()), ["r-2"]);
    assert_eq!(host.client.list(pb::ListRequest::default()).await.unwrap().into_inner().runs.len(), 2);
    let get = reader.get(pb::GetRequest { run_id: "r-1".into() }).await.unwrap_err();
    let attach = reader.attach(pb::AttachRequest { run_id: "r-1".into(), offset: 0 }).await.unwrap_err();
    assert_eq!((get.code(), attach.code()), (Code::NotFound, Code::NotFound));
    server.abort();
}
