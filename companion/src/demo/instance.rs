//! An instance of the service: a server with a runtime of its own, which can be killed.

mod http;
mod tcp;

use std::net::Ipv4Addr;
use std::thread;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{DemoError, Protocol};

/// A running instance; stopped when it is dropped.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) id: String,
    port: u16,
    /// Dropping it ends the thread.
    life: Option<oneshot::Sender<()>>,
}

impl Instance {
    pub(super) async fn start(protocol: Protocol, id: &str, port: u16) -> Result<Self, DemoError> {
        let started = |source| DemoError::Start {
            name: format!("instance {id}"),
            source,
        };
        // Bound before this returns, so that the instance answers at once.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.map_err(started)?.into_std().map_err(started)?;
        let (life, end) = oneshot::channel();
        // On its own runtime, whose end closes all connections at once, like a killed process.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(started)?;
        let own_id = id.to_owned();
        thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else {
                    return;
                };
                let served = async {
                    match protocol {
                        Protocol::Http => http::serve(listener, own_id).await,
                        Protocol::Tcp => tcp::serve(listener, own_id).await,
                    }
                };
                tokio::select! {
                    () = served => {}
                    _ = end => {}
                }
            });
            runtime.shutdown_background();
        });
        Ok(Self {
            id: id.to_owned(),
            port,
            life: Some(life),
        })
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Stops it, and closes its connections.
    pub(super) fn kill(&mut self) {
        self.life = None;
    }

    pub(super) fn is_alive(&self) -> bool {
        self.life.is_some()
    }
}
