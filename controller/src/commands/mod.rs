//! One file per command. A command gathers its input, calls the other modules and passes the result to `render`;
//! commands never print directly.

mod fleet;
mod hosts;
mod images;
mod record;
mod runs;

use std::sync::Arc;

use crate::{
    cli::{Cli, Command, RecordCommand},
    context::Context,
    error::{Error, Result},
    render::{Format, Output},
};

/// Runs the command that was typed.
pub async fn dispatch(cli: Cli, output: &Output) -> Result<()> {
    if cli.output == Format::Csv && !matches!(cli.command, Command::CpuLog(_) | Command::Exits(_)) {
        return Err(Error::invalid("only cpu-log and exits can print comma-separated values")
            .hint("--output json prints one object per line"));
    }
    let fleet = || Context::load(cli.asked()).map(Arc::new);
    match &cli.command {
        Command::Init(args) => fleet::init::init(args, output),
        Command::Completions { shell } => fleet::manual::completions(*shell, output),
        Command::Manual { directory } => fleet::manual::manual(directory),
        Command::Bundle(args) => fleet::bundle::bundle(fleet()?, args, output).await,
        Command::User(args) => fleet::user::user(&*fleet()?, args, output),
        Command::Gc(args) => fleet::gc::gc(fleet()?, args, output).await,
        Command::Bake(args) => images::bake::bake(&*fleet()?, args, output).await,
        Command::Image(args) => images::image::image(&*fleet()?, args, output).await,
        Command::Provision(args) => hosts::provision::provision(fleet()?, args, output).await,
        Command::Release(args) => hosts::release::release(fleet()?, args, output).await,
        Command::Hosts(args) => hosts::list::hosts(&fleet()?, args, output).await,
        Command::Adopt(args) => hosts::adopt::adopt(fleet()?, args, output).await,
        Command::Clone(args) => hosts::clone::clone(fleet()?, args, output).await,
        Command::Status(args) => hosts::status::status(fleet()?, args, output).await,
        Command::Stop(args) => hosts::stop::stop(fleet()?, args, output).await,
        Command::Start(args) => hosts::start::start(fleet()?, &args.hosts, output).await,
        Command::Destroy(args) => hosts::destroy::destroy(fleet()?, args, output).await,
        Command::Apply(args) => runs::apply::apply(fleet()?, args, output).await,
        Command::Run(args) => runs::run::run(fleet()?, args, &output.raw(args.raw)).await,
        Command::Runs(args) => runs::list::runs(fleet()?, args, output).await,
        Command::Attach(args) => {
            runs::attach::attach(fleet()?, &args.run.run, !args.no_diff, &output.raw(args.raw)).await
        }
        Command::Cancel(args) => runs::cancel::cancel(&*fleet()?, &args.run, output).await,
        Command::CpuLog(args) => record::cpu_log::cpu_log(&cli, args, output).await,
        Command::Diagnose(args) => record::diagnose::diagnose(&cli, args, output).await,
        Command::Top(args) => record::top::top(&cli, args).await,
        Command::Exits(args) => record::exits::exits(&cli, args, output).await,
        Command::Oom(args) => record::oom::oom(&cli, args, output).await,
        Command::Record(RecordCommand::Info(place)) => record::info::info(&cli, place, output).await,
        Command::Record(RecordCommand::Fetch(args)) => record::fetch::fetch(&cli, args, output).await,
    }
}
