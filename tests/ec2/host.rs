//! `ec2-lab-host`: manages the hosts behind the lab's instances, one verb per run. Answers are JSON objects.
//!
//! A host is launched without an enrol document: it asks its metadata service, as an instance does.

use std::{
    error::Error,
    future::pending,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use controller::provider::{Host, ImageId, Provider, local::Local};
use serde_json::{Value, json};
use tests::ec2::hosts::{FLEET, instance, open};
use tokio::{
    io::{AsyncWriteExt, copy, split},
    net::unix::pipe::{Receiver, Sender},
    runtime::Builder,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Timeout of the only attempt: a network does not retry.
const PATIENCE: Duration = Duration::ZERO;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let done = runtime.block_on(act(&arguments));
    match done {
        Ok(Value::Null) => ExitCode::SUCCESS,
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn act(arguments: &[&str]) -> Result<Value> {
    let ["--state", state, verb, rest @ ..] = arguments else {
        return Err("usage: ec2-lab-host --state DIR launch|start|stop|destroy|capture|dial …".into());
    };
    let local = open(Path::new(state));
    match (*verb, rest) {
        ("launch", [id, image]) => {
            let host = local.launch(&instance(id, &ImageId((*image).to_owned()))).await?;
            Ok(json!({ "id": host.id, "address": host.address }))
        }
        ("start", [id]) => {
            local.start(&find(&local, id).await?).await.map(|_| Value::Null).map_err(Into::into)
        }
        ("stop", [id]) => {
            local.stop(&find(&local, id).await?).await.map(|()| Value::Null).map_err(Into::into)
        }
        ("destroy", [id]) => {
            local.destroy(&find(&local, id).await?).await.map(|()| Value::Null).map_err(Into::into)
        }
        ("capture", [id]) => {
            let image = local.capture(&find(&local, id).await?).await?;
            Ok(json!({ "image": image.0 }))
        }
        ("dial", [address, port]) => dial(&local, Path::new(state), address, port.parse()?).await,
        _ => Err(format!("no such verb: {verb} {rest:?}").into()),
    }
}

async fn find(local: &Local, id: &str) -> Result<Host> {
    let hosts = local.hosts(FLEET).await?;
    hosts.into_iter().find(|host| host.id == id).ok_or_else(|| format!("no host {id}").into())
}

/// Connects standard input and output, which are pipes, to a port of the host that has the address now. This is the way into
/// the hosts' network, and translates public addresses.
async fn dial(local: &Local, state: &Path, address: &str, port: u16) -> Result<Value> {
    let path: PathBuf = state.join("addresses").join(address);
    let id = std::fs::read_to_string(path).map_err(|_| format!("{address}: no instance has this address"))?;
    let host = find(local, &id).await?;
    let stream = local.dial_until(&host, port, Instant::now() + PATIENCE).await?;
    let (mut from, mut to) = split(stream);
    let mut input = Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    let mut output = Sender::from_owned_fd(io::stdout().as_fd().try_clone_to_owned()?)?;
    let up = async {
        copy(&mut input, &mut to).await?;
        to.shutdown().await?;
        // The end of the input does not mean that the output is no longer read.
        pending::<io::Result<()>>().await
    };
    tokio::select! {
        outcome = up => outcome?,
        outcome = copy(&mut from, &mut output) => drop(outcome?),
    }
    Ok(Value::Null)
}
