//! `agent`: see [`agent`] for what it is made of.

use std::{io, process::ExitCode};

use agent::{
    cli::{Cli, Command},
    enrol::console::Console,
    paths::Paths,
    serve::{Config, Server, listener::Limits},
};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).with_target(false).init();
    let done = match Cli::parse().command {
        Command::Serve { root, listen } => serve(Config {
            paths: Paths::new(root),
            listen,
            system: "/".into(),
            console: Console::device(),
            limits: Limits::default(),
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread is enough, and keeps the agent small: nothing it does in `serve` takes long.
fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
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
