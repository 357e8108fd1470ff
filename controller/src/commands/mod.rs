//! One file a verb: gather, call, hand to render. No verb prints by itself.

mod adopt;
mod apply;
mod bundle;
mod clone;
mod consent;
mod cpu_log;
mod exits;
mod fetch;
mod follow;
mod gc;
mod image;
mod info;
mod init;
mod inspect;
mod machines;
mod manual;
mod obtain;
mod oom;
mod provision;
mod record;
mod release;
mod runs;
mod stdin;
mod syntax;
#[cfg(test)]
mod tests;
mod top;
mod usage;
mod user;

use std::sync::Arc;

use crate::{
    cli::{Cli, Command, Format, RecordCommand},
    context::Context,
    error::{Error, Result},
    render::Output,
};

/// Does what was typed.
pub async fn dispatch(cli: Cli, output: &Output) -> Result<()> {
    if cli.output == Format::Csv && !matches!(cli.command, Command::CpuLog(_) | Command::Exits(_)) {
        return Err(Error::invalid("only cpu-log and exits have rows to print as comma-separated values")
            .hint("--output json gives one object a line"));
    }
    match &cli.command {
        Command::Init(args) => return init::init(args, output),
        Command::Completions { shell } => return output.completions(*shell),
        Command::Manual { directory } => return manual::manual(directory),
        // These need a fleet only for a host's record.
        Command::CpuLog(args) => return cpu_log::cpu_log(&cli, args, output).await,
        Command::Top(args) => return top::top(&cli, args).await,
        Command::Exits(args) => return exits::exits(&cli, args, output).await,
        Command::Oom(args) => return oom::oom(&cli, args, output).await,
        Command::Record(RecordCommand::Info(place)) => return info::info(&cli, place, output).await,
        Command::Record(RecordCommand::Fetch(args)) => return fetch::fetch(&cli, args, output).await,
        _ => {}
    }
    let context = Arc::new(Context::load(&cli)?);
    match cli.command {
        Command::Init(_)
        | Command::Completions { .. }
        | Command::Manual { .. }
        | Command::CpuLog(_)
        | Command::Top(_)
        | Command::Exits(_)
        | Command::Oom(_)
        | Command::Record(_) => Ok(()),
        Command::Bake(args) => image::bake(&context, &args, output).await,
        Command::Image(args) => image::image(&context, &args, output).await,
        Command::Provision(args) => provision::provision(context, &args, output).await,
        Command::Release(args) => release::release(context, &args, output).await,
        Command::Gc(args) => gc::gc(context, &args, output).await,
        Command::Hosts(args) => machines::hosts(&context, &args, output).await,
        Command::Adopt(args) => adopt::adopt(context, &args, output).await,
        Command::Clone(args) => clone::clone(context, &args, output).await,
        Command::Status(args) => inspect::status(context, &args, output).await,
        Command::Apply(args) => apply::apply(context, &args, output).await,
        Command::Run(args) => {
            let output = output.raw(args.raw);
            runs::run(context, args, &output).await
        }
        Command::Runs(args) => inspect::runs(context, &args, output).await,
        Command::Attach(args) => {
            runs::attach(context, &args.run.run, !args.no_diff, &output.raw(args.raw)).await
        }
        Command::Cancel(args) => runs::cancel(&context, &args.run, output).await,
        Command::Stop(args) => machines::stop(context, &args, output).await,
        Command::Start(args) => machines::start(context, &args.hosts, output).await,
        Command::Destroy(args) => machines::destroy(context, &args, output).await,
        Command::Bundle(args) => bundle::bundle(context, &args, output).await,
        Command::User(args) => user::user(&context, &args, output),
    }
}
