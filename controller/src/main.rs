//! `ctl`: the controller's command-line program.

use std::process::ExitCode;

use clap::FromArgMatches;
use controller::{
    cli::{self, Cli, command},
    commands,
    error::{Error, Kind},
    provider::local,
    render::{Format, Output},
};

fn main() -> ExitCode {
    // Before any thread exists: the kernel refuses new namespaces to a process with several threads.
    if let Some(code) = local::reexecuted(std::env::args_os()) {
        return code;
    }
    let cli = match command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(refused) => return refuse(&refused),
    };
    let output = Output::standard(cli.output);
    match run(cli, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.kind() {
                // Not a failure: the requested result.
                Kind::Pending | Kind::Detached => output.outcome(&error),
                // Not an error of ctl: the command's own output was already shown.
                Kind::Command(_) => output.hints(&error),
                _ => output.error(&error),
            }
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Prints what is wrong with the command line, or the requested help; clap decides which and where.
fn refuse(refused: &clap::Error) -> ExitCode {
    // If stderr cannot be written either, there is nowhere left to report it.
    let _ = refused.print();
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if refused.use_stderr()
        && let Some(hint) = cli::hint(&words)
    {
        Output::standard(Format::Text).hint(&hint);
    }
    ExitCode::from(u8::try_from(refused.exit_code()).unwrap_or(2))
}

fn run(cli: Cli, output: &Output) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::invalid(format!("cannot start the async runtime: {error}")))?;
    let result = runtime.block_on(commands::dispatch(cli, output));
    // Do not wait for blocked helper threads when the command is finished.
    runtime.shutdown_background();
    result
}
