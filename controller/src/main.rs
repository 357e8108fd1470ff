//! `ctl`: the controller's command.

use std::process::ExitCode;

use clap::FromArgMatches;
use controller::{
    cli::{Cli, command},
    commands,
    error::{Error, Kind},
    provider::local,
    render::Output,
};

fn main() -> ExitCode {
    // Before any thread exists: namespaces are refused to a process with several.
    if let Some(code) = local::reexecuted(std::env::args_os()) {
        return code;
    }
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    let output = Output::standard(cli.output);
    match run(cli, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.kind() {
                // Not a failure: what was asked for.
                Kind::Pending | Kind::Detached => output.outcome(&error),
                _ => output.error(&error),
            }
            ExitCode::from(error.kind().exit_code())
        }
    }
}

fn run(cli: Cli, output: &Output) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::invalid(format!("no runtime: {error}")))?;
    let result = runtime.block_on(commands::dispatch(cli, output));
    // A blocked helper thread must not keep a finished command.
    runtime.shutdown_background();
    result
}
