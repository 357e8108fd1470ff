//! The `agent` program: parses arguments and calls the library [`agent`].

use std::{
    env,
    error::Error,
    io,
    os::unix::process::CommandExt,
    process::{self, ExitCode},
};

use agent::{
    cli::{Cli, Collector, Command},
    enrol::console::Console,
    limits,
    paths::Paths,
    run,
    seal::{Mode, seal},
    serve::{Config, Server, listener::Limits},
};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).with_target(false).without_time().init();
    let done = match Cli::parse().command {
        Command::Serve { root, listen, metadata } => {
            env::current_exe().map_err(Into::into).and_then(|agent| {
                let (paths, system) = (Paths::new(root), "/".into());
                serve(Config {
                    paths,
                    listen,
                    system,
                    metadata,
                    agent,
                    console: Console::device(),
                    limits: Limits::default(),
                    poweroff: vec!["systemctl".into(), "poweroff".into()],
                })
            })
        }
        Command::Run { id, root } => run::supervise(&Paths::new(root), &id).map_err(Into::into),
        Command::Seal { root, root_dir, dry_run, check } => {
            let mode = match (dry_run, check) {
                (true, _) => Mode::DryRun,
                (_, true) => Mode::Check,
                _ => Mode::Seal,
            };
            seal(&root_dir, &root, mode, &mut io::stdout()).map_err(Into::into)
        }
        Command::Record { root, collector } => record(&Paths::new(root), collector),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Threads for work that blocks on the disk: reads of the record use four, uploads eight.
const BLOCKING_THREADS: usize = 32;

/// One thread is enough and keeps the agent small: nothing in `serve` runs for long between awaits.
fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(BLOCKING_THREADS).build()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut shutdown = std::pin::pin!(async {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = interrupt.recv() => (),
            }
        });
        let server = tokio::select! {
            server = Server::bind(config) => server?,
            () = &mut shutdown => return Ok(()),
        };
        Ok(server.serve(shutdown).await?)
    })
}

/// Executes the recorder, a separate program in the same directory; returns only if that fails.
fn record(paths: &Paths, collector: Option<Collector>) -> Result<(), Box<dyn Error>> {
    let recorder = env::current_exe()?.with_file_name("recorder");
    let collector = collector.map_or("-", |collector| record::Collector::from(collector).name());
    let limit = limits::provided(paths).map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
    let error = process::Command::new(&recorder).arg(paths.history()).args([collector, &limit]).exec();
    Err(format!("cannot execute {}: {error}; reinstall the agent", recorder.display()).into())
}
