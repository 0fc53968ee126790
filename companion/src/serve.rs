//! Settings → a running companion, and its end.
//!
//! Order at the end: new requests are refused, those under way finish (bounded), then the rest
//! stops. Memory holds nothing that a kill could lose: every acknowledged write is in the store.
//!
//! | module | what |
//! |---|---|
//! | `files` | the files that settings name, checked before anything starts |
//! | `store` | settings → the store, and what companions of a unit agree on |
//! | `node` | what all tasks share |
//! | `sweep` | expired records are freed |
//! | `tasks` | what runs beside the requests |
//! | `reload` | credentials and certificates, now and on each reload |
//! | `address` | listening addresses |

mod address;
mod files;
mod node;
mod reload;
mod store;
mod sweep;
mod tasks;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::config::Settings;
use crate::door::credentials::KeyringError;
use crate::door::descriptors;
use crate::door::listener::Listener;
use crate::fixed::FixedDataError;
use crate::http::{self, App};
use crate::store::StoreError;
use crate::tls::FileError;
use crate::trace::{self, SpanCounts, StartError, Traces};

use address::{bound, listen, way_out};
pub(crate) use files::check;
use files::check_tls;
use node::Node;
pub(crate) use reload::Reload;
use reload::{Door, Keeper, Logins};

/// How long requests under way may take once the process is to stop.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long releasing the lease may take after that.
const RESIGN_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the companion could not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// An address could not be bound.
    #[error("listen on {address}: {source}{}", way_out(source, flag))]
    Listen {
        /// The flag that chooses it.
        flag: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of certificates or keys can't be used.
    #[error(transparent)]
    Tls(#[from] FileError),
    /// The file of the fixed data can't be used.
    #[error("group.fixed_data: {0}")]
    FixedData(#[from] FixedDataError),
    /// Nothing can be traced.
    #[error(transparent)]
    Trace(#[from] StartError),
    /// The tokens can't be used.
    #[error(transparent)]
    Tokens(#[from] KeyringError),
    #[error("serving ended: {0}")]
    Ended(io::Error),
}

impl ServeError {
    /// Whether the configuration is wrong, so that starting again does not help.
    pub(crate) fn is_of_configuration(&self) -> bool {
        let store =
            |error: &StoreError| matches!(error, StoreError::File { .. } | StoreError::Tls(_));
        match self {
            Self::Tls(_) | Self::FixedData(_) | Self::Tokens(_) => true,
            Self::Store(error) => store(error),
            Self::Trace(error) => matches!(error, StartError::Tls(_)),
            Self::Listen { .. } | Self::Ended(_) => false,
        }
    }
}

/// Serves until `stop` completes. Each reload replaces the tokens, names and certificates in force.
///
/// # Errors [`ServeError`]. A store or broker out of reach is not an error: the companion waits for
/// it, and `/readyz` reports it.
pub(crate) async fn run(
    settings: Settings,
    reloads: mpsc::Receiver<Reload>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let door = Door::read(&settings.door)?;
    check_tls(&settings)?;
    let connections = descriptors::raise();
    let (store, redis) = store::open(&settings)?;
    let (keeper, certificates, rules) = Keeper::new(&settings, door);
    let started = settings.clone();
    let (node, ends) = Node::new(settings, store, rules)?;
    let traces = trace(&node)?;
    let http = listen("--listen", node.settings.listen).await?;
    let xds = listen("--xds-listen", node.settings.xds_listen).await?;
    let at_http = bound(&http, node.settings.listen);
    let at_xds = bound(&xds, node.settings.xds_listen);
    // An Envoy has one connection for endpoints, and several for reports.
    let (for_http, for_xds) = (connections - connections / 4, connections / 4);
    let http = node.listener(http, for_http, certificates.http);
    let xds = node.listener(xds, for_xds, certificates.xds);

    let (resigned_sender, resigned) = oneshot::channel();
    let mut tasks = JoinSet::new();
    let logins = Logins {
        started,
        redis,
        brokers: node.sync.as_ref().map(|(_, access)| access.clone()),
        group: ends.group_settings,
    };
    let keepers = (keeper, logins);
    tasks.spawn(reload::reload(reloads, keepers, Arc::clone(&node.metrics)));
    tasks.spawn(node.lead(ends.role, resigned_sender));
    tasks.spawn(node.feed_registry(ends.registry));
    tasks.spawn(node.follow_changes());
    tasks.spawn(node.sweep());
    if let Some(sync) = node.sync(ends.sync) {
        tasks.spawn(sync);
    }
    if let Some(watch) = node.watch_group(ends.group) {
        tasks.spawn(watch);
    }
    tasks.spawn(node.discover(xds));
    tracing::info!(unit = %node.settings.unit, http = %at_http, xds = %at_xds, "serving");

    let stopping = node.stopping.clone();
    let ended = background_ended(&mut tasks, stopping.clone());
    let outcome = tokio::select! {
        outcome = requests(http, Arc::new(node.app()), stop, &ends.stopping, stopping) => {
            // So that another companion need not wait for the lease to end.
            drop(tokio::time::timeout(RESIGN_TIMEOUT, resigned).await);
            outcome
        }
        () = ended => {
            let error = "a background task ended: restart the companion";
            Err(ServeError::Ended(io::Error::other(error)))
        }
    };
    if let Some(traces) = traces {
        traces.end().await;
    }
    outcome
    // Dropping the tasks ends them.
}

/// Starts to trace if the settings name a collector.
fn trace(node: &Node) -> Result<Option<Traces>, StartError> {
    let collector = node.settings.trace.as_ref();
    let traces = collector.map(|collector| {
        let who = (node.settings.unit.as_str(), node.process.as_str());
        let counts = SpanCounts {
            ended: node.metrics.spans_ended.clone(),
            exported: node.metrics.spans_exported.clone(),
            lost: node.metrics.spans_lost.clone(),
        };
        trace::start(collector, who, counts)
    });
    traces.transpose()
}

/// Returns when a background task ends before the stop: without it the process would only look
/// alive.
async fn background_ended(tasks: &mut JoinSet<()>, stopping: watch::Receiver<bool>) {
    while tasks.join_next().await.is_some() {
        if !*stopping.borrow() {
            return;
        }
    }
    std::future::pending().await
}

/// Answers requests until `stop` completes and those under way are answered.
async fn requests(
    listener: Listener,
    app: Arc<App>,
    stop: impl Future<Output = ()>,
    sender: &watch::Sender<bool>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let server = http::server::serve(listener, http::router(app), stopping.clone());
    let drain = async {
        stop.await;
        tracing::info!("stopping");
        sender.send_replace(true);
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        () = server => {}
        () = drain => tracing::warn!("requests still under way after {DRAIN_TIMEOUT:?} are cut off"),
    }
    stopping.mark_unchanged();
    tracing::info!("stopped");
    Ok(())
}
