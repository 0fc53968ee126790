//! `GET /v1/services…`: registry, loads and rings at this moment.

mod summary;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::ids::{InstanceId, ServiceName};
use unitring_protocol::snapshot::Snapshot;

use super::App;
use super::answer::Refusal;
use super::extract::{Path, Query};
use crate::clock::now_ms;
use crate::door::Caller;
use crate::explain::{self, Part};
use crate::loads::{self, StoredLoad};
use crate::metrics::{INSTANCES_SHOWN_MAX, ShownInstance, ShownService};
use crate::registry::{Registered, Registry};
use crate::store::{Fleet, StoreError};
use summary::Summary;
use view::{View, view};

/// Most services in a page.
const LIMIT_MAX: usize = 1_000;
/// A page ends with the service at which it reaches this many instances.
const PAGE_INSTANCES_MAX: usize = 20_000;

/// The query of services.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Whether to include each instance's share of keys and its capacity.
    #[serde(default)]
    shares: bool,
    /// The last service of the page before.
    after: Option<ServiceName>,
    /// Most services in the answer.
    limit: Option<usize>,
    /// Whether the list has sums in place of instances and reporters.
    #[serde(default)]
    summary: bool,
}

/// A service in the list.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Row {
    Whole(View),
    Summary(Summary),
}

impl Row {
    fn service(&self) -> &ServiceName {
        match self {
            Self::Whole(view) => &view.service,
            Self::Summary(summary) => &summary.service,
        }
    }
}

/// The share and capacity of each instance, measured away from the threads that answer requests.
async fn parts(
    app: &App,
    caller: &Caller,
    loads: &Arc<Vec<StoredLoad>>,
) -> Result<BTreeMap<InstanceId, Part>, Refusal> {
    if loads::latest(loads).is_none() {
        return Ok(BTreeMap::new());
    }
    let all = Arc::clone(loads);
    app.heavy
        .run(&app.metrics, caller, move || parts_of(&all))
        .await
}

/// The names of all services that have registered instances or reporters.
async fn names(
    fleet: &dyn Fleet,
    registry: &Registry,
) -> Result<BTreeSet<ServiceName>, StoreError> {
    let mut names: BTreeSet<ServiceName> = fleet.reported().await?;
    names.extend(registry.services.keys().cloned());
    Ok(names)
}

/// Every service and instance with its load, for `/metrics`.
pub(super) async fn shown(
    fleet: &dyn Fleet,
) -> Result<(Vec<ShownService>, Vec<ShownInstance>), StoreError> {
    let (mut services, mut shown) = (Vec::new(), Vec::new());
    for service in fleet.reported().await? {
        // Instances that are left out are not read, so their count is a lower bound.
        if shown.len() > INSTANCES_SHOWN_MAX {
            break;
        }
        let loads = fleet.loads(&service, now_ms()).await?;
        if loads.is_empty() {
            continue;
        }
        let measure = move || (parts_of(&loads), loads);
        // A ring is built for it, which is not for a thread that answers requests.
        let measured = tokio::task::spawn_blocking(measure).await;
        let Ok((parts, loads)) = measured else {
            continue;
        };
        let view = view(fleet, service, Vec::new(), loads, &parts).await?;
        let service = view.service;
        services.push(ShownService {
            service: service.clone(),
            reporters: view.reporters.len(),
        });
        shown.extend(view.instances.into_iter().map(|instance| ShownInstance {
            service: service.clone(),
            instance: instance.id,
            address: instance.address,
            healthy: instance.healthy,
            draining: instance.draining,
            share: instance.share,
            capacity: instance.capacity,
            calls: instance.calls,
            failures: instance.failures,
            updates: instance.updates,
            update_bytes: instance.update_bytes,
            updates_refused: instance.updates_refused,
            updates_dropped: instance.updates_dropped,
            updates_per_s: instance.updates_per_s,
            in_flight: instance.in_flight,
            update_load: instance.update_load,
        }));
    }
    Ok((services, shown))
}

/// The share and capacity of each instance, by the latest report.
fn parts_of(loads: &[StoredLoad]) -> BTreeMap<InstanceId, Part> {
    let parts = loads::latest(loads).map(|by| explain::parts(by, loads));
    parts.and_then(Result::ok).unwrap_or_default()
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<Asked>,
) -> Result<Json<serde_json::Value>, Refusal> {
    let fleet: &dyn Fleet = &*app.store;
    let mut registry = fleet.registry().await?;
    let names = names(fleet, &registry).await?;
    let from = asked.after.map_or(Unbounded, Excluded);
    let limit = asked.limit.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
    let (mut rows, mut instances, mut after) = (Vec::new(), 0, None);
    for name in names.range((from, Unbounded)) {
        if rows.len() >= limit || instances >= PAGE_INSTANCES_MAX {
            after = rows.last().map(|row: &Row| row.service().clone());
            break;
        }
        let registered = registry.services.remove(name).unwrap_or_default();
        let loads = Arc::new(fleet.loads(name, now_ms()).await?);
        let parts = match asked.shares && !asked.summary {
            true => parts(&app, &caller, &loads).await?,
            false => BTreeMap::new(),
        };
        let registered = registered.into_values().collect();
        let view = view(
            fleet,
            name.clone(),
            registered,
            Arc::unwrap_or_clone(loads),
            &parts,
        )
        .await?;
        // Its reporters are silent: a service that a filter named once, by mistake perhaps.
        if view.is_used() {
            instances += view.instances.len() + view.registry.len();
            rows.push(match asked.summary {
                true => Row::Summary(Summary::of(&view)),
                false => Row::Whole(view),
            });
        }
    }
    Ok(Json(
        serde_json::json!({ "services": rows, "after": after }),
    ))
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(service): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<View>, Refusal> {
    let service: ServiceName = service.parse()?;
    let registry = app.store.registry().await?;
    let registered = registry.instances(service.as_str()).cloned().collect();
    let loads = Arc::new(app.store.loads(&service, now_ms()).await?);
    let parts = match asked.shares {
        true => parts(&app, &caller, &loads).await?,
        false => BTreeMap::new(),
    };
    let view = view(
        &*app.store,
        service,
        registered,
        Arc::unwrap_or_clone(loads),
        &parts,
    )
    .await?;
    if !view.is_used() {
        return Err(Refusal::absent(format!("service {}", view.service)));
    }
    Ok(Json(view))
}

/// Forgets a service that has neither instances nor live reporters, before its time is over.
pub(super) async fn forget(
    State(app): State<Arc<App>>,
    Path(service): Path<String>,
) -> Result<Json<serde_json::Value>, Refusal> {
    let service: ServiceName = service.parse()?;
    let registered = app.store.registry().await?;
    let registered = registered.instances(service.as_str()).count();
    let reporters = app.store.loads(&service, now_ms()).await?.len();
    if registered > 0 || reporters > 0 {
        let error = format!(
            "service {service} is in use: {registered} registered instances, {reporters} Envoys that report on it"
        );
        return Err(Refusal::new(StatusCode::CONFLICT, error));
    }
    if !app.store.forget_service(&service).await? {
        return Err(Refusal::absent(format!("service {service}")));
    }
    Ok(Json(
        serde_json::json!({ "service": service, "forgotten": true }),
    ))
}

/// The registered instances of a service, for a filter that discovers them through the companion.
pub(super) async fn instances(
    State(app): State<Arc<App>>,
    Path(service): Path<String>,
) -> Result<Json<serde_json::Value>, Refusal> {
    let service: ServiceName = service.parse()?;
    let registry = app.store.registry().await?;
    let instances: Vec<&Registered> = registry.instances(service.as_str()).collect();
    Ok(Json(serde_json::json!({
        "revision": registry.revision,
        "instances": instances,
    })))
}

/// The query of a snapshot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    version: Option<String>,
    wait: Option<String>,
}

pub(super) async fn snapshot(
    State(app): State<Arc<App>>,
    Path(service): Path<String>,
    Query(query): Query<Wait>,
) -> Result<Json<Snapshot>, Refusal> {
    if query.wait.is_some() || query.version.is_some() {
        return Err(Refusal::unsupported(
            "waiting for a version (?version=&wait=)",
        ));
    }
    let service: ServiceName = service.parse()?;
    let loads = app.store.loads(&service, now_ms()).await?;
    Ok(Json(Snapshot {
        version: PROTOCOL_VERSION,
        events_through: 0,
        services: vec![loads::rest(&service, &loads, None)],
    }))
}
