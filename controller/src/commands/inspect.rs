//! `ctl status`, `runs`, `cpu-log`: what hosts say of themselves.

use std::{io, sync::Arc};

use jiff::{Timestamp, Zoned, tz::TimeZone};

use crate::{
    cli::{CpuLog as Args, Sort as SortArg, Targets},
    client::{
        self,
        history::{Recorded, Recording},
    },
    context::Context,
    cpu_log::{Break, CpuLog, Entry, Query, Sort, parse_time},
    error::{Error, Result},
    fanout,
    provider::Host,
    render::{
        Output,
        cpu_log::{self, Form},
        table,
    },
};

/// Runs listed of each host.
const RUNS: u32 = 10;

/// `ctl status`: every host that answers gets a row, the others are the error.
pub(super) async fn status(context: Arc<Context>, args: &Targets, output: &Output) -> Result<()> {
    let hosts = context.running(&args.hosts, args.role.as_deref()).await?;
    let results = fanout::each(hosts, |host| {
        let context = Arc::clone(&context);
        async move {
            let channel = context.connect(&host).await?.channel;
            let mut reply = client::status::ask(channel, &host.name).await?;
            // A local host cannot see its own kernel's log; its provider counts for it.
            if let Some(kills @ 1..) = context.provider(host.provider)?.oom_kills(&host) {
                reply
                    .degraded
                    .push(format!("processes killed for want of memory since it was booted: {kills}"));
            }
            Ok(reply)
        }
    });
    let (replies, failures) = split(results.await);
    table::status(output, &replies, Timestamp::now())?;
    fanout::sum(failures)
}

/// `ctl runs`
pub(super) async fn runs(context: Arc<Context>, args: &Targets, output: &Output) -> Result<()> {
    let hosts = context.running(&args.hosts, args.role.as_deref()).await?;
    let results = fanout::each(hosts, |host| {
        let context = Arc::clone(&context);
        async move {
            let channel = context.connect(&host).await?.channel;
            client::runs::list(channel, &host.name, RUNS).await
        }
    });
    let (lists, failures) = split(results.await);
    let runs: Vec<_> = lists
        .into_iter()
        .flat_map(|(host, runs)| runs.into_iter().map(move |run| (host.clone(), run)))
        .collect();
    table::runs(output, &runs, &TimeZone::system())?;
    fanout::sum(failures)
}

/// What those said that answered, and why the others did not.
type Split<T> = (Vec<(String, T)>, Vec<(Host, Error)>);

fn split<T>(results: Vec<(Host, Result<T>)>) -> Split<T> {
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    for (host, result) in results {
        match result {
            Ok(answer) => answers.push((host.name, answer)),
            Err(error) => failures.push((host, error)),
        }
    }
    (answers, failures)
}

/// `ctl cpu-log`
pub(super) async fn cpu_log(context: &Context, args: &Args, output: &Output) -> Result<()> {
    let now = Zoned::now();
    let from = parse_time(&args.since, &now)?;
    let until = args.until.as_deref().map(|text| parse_time(text, &now)).transpose()?;
    if until.is_some_and(|until| until <= from) {
        return Err(Error::invalid("the window is empty: --until is not after --since"));
    }
    let sort = match args.sort {
        SortArg::Cpu => Sort::Cpu,
        SortArg::Memory => Sort::Memory,
    };
    let query = Query { from: Some(from), until, sort, top: Some(args.top) };

    let hosts = context.running(std::slice::from_ref(&args.host), None).await?;
    let channel = context.connect(&hosts[0]).await?.channel;
    // The sample before the window is what the first rates are computed from.
    let begin = from.as_millisecond() - 2_000;
    let recording = if args.follow {
        client::history::follow(channel, begin).await?
    } else {
        client::history::read(channel, begin, until.map_or(0, Timestamp::as_millisecond)).await?
    };
    let form = if output.is_json() { Form::Json } else { Form::Text(now.time_zone().clone()) };
    let shown = show(recording, CpuLog::new(query), &form, output);
    tokio::select! {
        shown = shown => shown,
        // The way to end --follow; nothing was left half-done.
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn show(mut recording: Recording, mut log: CpuLog, form: &Form, output: &Output) -> Result<()> {
    let mut page = Vec::new();
    if matches!(form, Form::Text(_)) && output.is_terminal() {
        cpu_log::write_header(&mut page).map_err(unwritable)?;
    }
    while let Some(recorded) = recording.next().await? {
        let entries = match recorded {
            Recorded::Sample(sample) => log.push(*sample),
            Recorded::Lost(sentence) => vec![Entry::Break(Break::Lost(sentence))],
        };
        for entry in &entries {
            cpu_log::write(entry, form, &mut page).map_err(unwritable)?;
        }
        output.bytes(&page)?;
        page.clear();
    }
    output.bytes(&page)
}

fn unwritable(error: io::Error) -> Error {
    Error::invalid(format!("cannot write: {error}"))
}
