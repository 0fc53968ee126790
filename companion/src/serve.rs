//! Settings → a running companion, and its end.
//!
//! Order at the end: new requests are refused, those under way finish (bounded), then the rest
//! stops. Memory holds nothing that a kill could lose: every acknowledged write is in the store.

mod address;
mod files;
mod reload;
mod store;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::changefeed::Follower;
use crate::clock::now_ms;
use crate::config::Settings;
use crate::door::budget::{Budget, EVENT_STREAMS_MAX};
use crate::door::credentials::KeyringError;
use crate::door::descriptors;
use crate::door::kept::Kept;
use crate::door::listener::Listener;
use crate::door::strain::Strain;
use crate::fixed::FixedDataError;
use crate::http::{
    self, ANSWERS_BYTES_MAX, App, BODIES_BYTES_MAX, Group, Heavy, Overview, Paces, RefusedUpdates,
    Room, Sizes, Wiring,
};
use crate::leadership::{self, Role};
use crate::metrics::Metrics;
use crate::store::{Housekeeping, StoreError};
use crate::sync::links::amqp;
use crate::sync::{Driver, Gathering, Handle, Parts};
use crate::tls::FileError;
use crate::{group, registry_feed, trace, xds};

use address::{bound, listen, way_out};
pub use files::check;
use files::check_tls;
pub use reload::Reload;
use reload::{Door, Keeper};

/// How long requests under way may take once the process is to stop.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long releasing the lease may take after that.
const RESIGN_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the companion could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
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
    Trace(#[from] trace::StartError),
    /// The tokens can't be used.
    #[error(transparent)]
    Tokens(#[from] KeyringError),
    #[error("serving ended: {0}")]
    Ended(io::Error),
}

impl ServeError {
    /// Whether the configuration is wrong, so that starting again does not help.
    pub fn is_of_configuration(&self) -> bool {
        let store =
            |error: &StoreError| matches!(error, StoreError::File { .. } | StoreError::Tls(_));
        match self {
            Self::Tls(_) | Self::FixedData(_) | Self::Tokens(_) => true,
            Self::Store(error) => store(error),
            Self::Trace(error) => matches!(error, trace::StartError::Tls(_)),
            Self::Listen { .. } | Self::Ended(_) => false,
        }
    }
}

/// Serves until `stop` completes. Each reload replaces the tokens, names and certificates in force.
///
/// # Errors [`ServeError`]. A store or broker out of reach is not an error: the companion waits for
/// it, and `/readyz` reports it.
pub async fn run(
    settings: Settings,
    reloads: mpsc::Receiver<Reload>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let has_peers = settings.sync.is_some();
    let door = Door::read(&settings.door)?;
    check_tls(&settings)?;
    let connections = descriptors::raise();
    let store = store::open(&settings, has_peers)?;
    let metrics = Arc::new(Metrics::default());
    let (unit, process) = (settings.unit.clone(), name_of_process());
    let traces = settings.trace.as_ref().map(|collector| {
        let metrics = Arc::clone(&metrics);
        trace::start(collector, (unit.as_str(), &process), metrics)
    });
    let traces = traces.transpose()?;
    let listener = listen("--listen", settings.listen).await?;
    let xds_listener = listen("--xds-listen", settings.xds_listen).await?;
    let mut tasks = JoinSet::new();
    let strain = Arc::new(Strain::default());
    let (rules_sender, rules) = watch::channel(door.rules);
    let (http_sender, http_certificates) = watch::channel(door.http);
    let (xds_sender, xds_certificates) = watch::channel(door.xds);
    let keeper = Keeper {
        door: settings.door.clone(),
        addresses: [
            ("listen", settings.listen),
            ("xds_listen", settings.xds_listen),
        ],
        rules: rules_sender,
        http: http_sender,
        xds: xds_sender,
    };
    tasks.spawn(reload::reload(reloads, keeper, Arc::clone(&metrics)));

    let (stopping_sender, stopping) = watch::channel(false);
    let (resigned_sender, resigned) = oneshot::channel();
    let (role_sender, role) = watch::channel(Role::Unknown);
    tasks.spawn(leadership::run(
        Arc::clone(&store) as _,
        process,
        role_sender,
        Arc::clone(&metrics),
        stopping.clone(),
        resigned_sender,
    ));
    let (registry_sender, registry) = watch::channel(None);
    let registry_changed = Arc::new(Notify::new());
    let follow = registry_feed::run(
        Arc::clone(&store),
        Arc::clone(&registry_changed),
        registry_sender,
        Arc::clone(&metrics),
        role.clone(),
        Arc::clone(&strain),
    );
    tasks.spawn(follow);
    let follower = Follower::default();
    let unit = settings.unit.clone();
    tasks.spawn(follower.clone().run(Arc::clone(&store) as _, unit));
    tasks.spawn(sweep(
        Arc::clone(&store) as _,
        role.clone(),
        Arc::clone(&metrics),
    ));
    let events_changed = Arc::new(Notify::new());
    let sync = match &settings.sync {
        None => None,
        Some(sync) => {
            let parts = Parts {
                store: Arc::clone(&store),
                events_changed: Arc::clone(&events_changed),
                fixed: Gathering::default(),
                metrics: Arc::clone(&metrics),
            };
            let tls = amqp::Tls::read(&sync.tls)?;
            let (handle, status) = Handle::new(sync, &tls);
            let ends = (handle.clone(), status);
            let (unit, sync) = (settings.unit.clone(), sync.clone());
            tasks.spawn(Driver::new(unit, sync, tls, parts, ends, role.clone()).run());
            Some(handle)
        }
    };
    let group = settings.group.map(|group| {
        let (sender, seen) = watch::channel(None);
        let (unit, metrics) = (settings.unit.clone(), Arc::clone(&metrics));
        let lead = (role.clone(), Arc::clone(&store) as _);
        let watch = group::watch::run(group.clone(), unit, metrics, lead, sender);
        tasks.spawn(watch);
        Group {
            settings: group,
            seen,
        }
    });
    let xds = bound(&xds_listener, settings.xds_listen);
    // An Envoy has one connection for endpoints, and several for reports.
    let (for_http, for_xds) = (connections - connections / 4, connections / 4);
    let door = |listener, max, certificates| {
        let (metrics, strain) = (Arc::clone(&metrics), Arc::clone(&strain));
        Listener::new(listener, max, certificates, metrics, strain)
    };
    let discovery = xds::serve(
        door(xds_listener, for_xds, xds_certificates),
        registry,
        rules.clone(),
        stopping.clone(),
        Arc::clone(&metrics),
    );
    tasks.spawn(async {
        if let Err(error) = discovery.await {
            tracing::error!(%error, "endpoint discovery ended");
        }
    });
    let http_address = bound(&listener, settings.listen);
    let listener = door(listener, for_http, http_certificates);

    tracing::info!(
        unit = %settings.unit,
        http = %http_address,
        %xds,
        "serving"
    );
    let app = Arc::new(App {
        unit: settings.unit,
        rules,
        store,
        follower,
        overview: Arc::new(Overview::default()),
        wiring: Wiring::default(),
        metrics,
        registry_changed,
        events_changed,
        sync,
        group,
        role,
        stopping: stopping.clone(),
        budget: Budget::default(),
        bodies: Kept::new(BODIES_BYTES_MAX),
        answers: Kept::new(ANSWERS_BYTES_MAX),
        event_streams: Kept::new(EVENT_STREAMS_MAX),
        reports: Sizes::default(),
        events_room: Room::default(),
        refused_updates: RefusedUpdates::default(),
        paces: Paces::default(),
        heavy: Heavy::default(),
        strain,
    });
    let ended = background_ended(&mut tasks, stopping.clone());
    let outcome = tokio::select! {
        outcome = serve(listener, app, stop, &stopping_sender, stopping) => {
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

/// A name that no other process has: process ids repeat across machines.
fn name_of_process() -> String {
    let random = std::collections::hash_map::RandomState::new();
    let random = std::hash::BuildHasher::hash_one(&random, now_ms());
    format!("{}-{random:016x}", std::process::id())
}

/// How often expired records are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Frees expired records, for ever, while this companion leads.
async fn sweep(store: Arc<dyn Housekeeping>, role: watch::Receiver<Role>, metrics: Arc<Metrics>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        if role.borrow().term().is_none() {
            continue;
        }
        match store.sweep(now_ms()).await {
            Ok(swept) => drop(metrics.records_swept.inc_by(swept)),
            Err(error) => tracing::debug!(%error, "expired records wait for the store"),
        }
    }
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

async fn serve(
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
