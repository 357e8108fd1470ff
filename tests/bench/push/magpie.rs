//! Magpie's side: the controller's library pushes to the agent's bundle service over loopback TCP.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use agent::{bundles::Store, paths::Paths, serve::bundles::Service};
use controller::bundle::{push::push, source::from_working_tree};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};

use crate::{Pusher, Result};

/// Both ends in this process, without TLS; each push makes the bundle and the connection anew, as a command would.
pub(crate) struct InProcess {
    runtime: Runtime,
    address: String,
    paths: Paths,
    newest: String,
}

impl InProcess {
    pub(crate) fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Self { runtime, address: String::new(), paths: Paths::new(PathBuf::new()), newest: String::new() })
    }
}

impl Pusher for InProcess {
    fn name(&self) -> &'static str {
        "magpie"
    }

    fn fresh(&mut self, scratch: &Path) -> Result<()> {
        self.paths = Paths::new(scratch.join("agent"));
        let store = Arc::new(Store::open(self.paths.clone(), 5)?);
        let listener = self.runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        self.address = format!("http://{}", listener.local_addr()?);
        let service = Service::new(store, BTreeSet::new).into_server();
        // Lives until the benchmark ends; each round listens on a port of its own.
        self.runtime.spawn(
            Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Ok(())
    }

    fn push(&mut self, tree: &Path) -> Result<()> {
        self.newest = self.runtime.block_on(async {
            let tree = tree.to_owned();
            let bundle =
                tokio::task::spawn_blocking(move || from_working_tree(&tree, None, SystemTime::now()))
                    .await??;
            let channel = Endpoint::from_shared(self.address.clone())?.connect().await?;
            push(channel, &bundle).await?;
            Ok::<_, Box<dyn std::error::Error>>(bundle.digest().to_string())
        })?;
        Ok(())
    }

    fn destination(&self) -> PathBuf {
        self.paths.bundle_tree(&self.newest)
    }
}
