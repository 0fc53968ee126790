//! `GET /v1/services…`: registry, loads and rings at this moment.

mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::ids::{InstanceId, ReporterId, ServiceName};
use unitring_protocol::report::{BoundReport, Finding, RingReport};
use unitring_protocol::snapshot::Snapshot;

use super::App;
use super::answer::Refusal;
use super::extract::{Path, Query};
use crate::clock::now_ms;
use crate::door::Caller;
use crate::explain::{self, Part};
use crate::loads::rate::{self, UpdateRate};
use crate::loads::{self, LoadSource, StoredLoad, Totals};
use crate::metrics::{INSTANCES_SHOWN_MAX, ShownInstance, ShownService};
use crate::registry::{Registered, Registry};
use crate::store::{Fleet, StoreError};
use summary::Summary;

/// A service in an answer.
#[derive(Debug, Serialize)]
pub(super) struct View {
    service: ServiceName,
    /// The ring of the latest report.
    ring: Option<RingReport>,
    registry: Vec<Registered>,
    reporters: Vec<ReporterView>,
    instances: Vec<InstanceView>,
}

impl View {
    /// Whether the service has registered instances or living reporters.
    fn is_used(&self) -> bool {
        !self.registry.is_empty() || !self.reporters.is_empty()
    }
}

#[derive(Debug, Serialize)]
struct ReporterView {
    reporter: ReporterId,
    /// How long ago its last report was taken.
    age_ms: u64,
    alive_until_ms: u64,
    ring: String,
    bound: Option<BoundReport>,
    fallbacks: u64,
    /// The counts of updates since it started, over all instances.
    updates: u64,
    update_bytes: u64,
    updates_refused: u64,
    updates_dropped: u64,
    updates_per_s: f64,
    /// The findings of that filter: what is wired wrongly.
    wiring: Vec<Finding>,
}

#[derive(Debug, Clone, Serialize)]
struct InstanceView {
    id: InstanceId,
    address: String,
    weight: u32,
    healthy: bool,
    /// Whether any reporter says that it takes no new keys for good.
    draining: bool,
    /// The least warmth that a reporter has for it, in percent of its weight.
    warmth: u8,
    calls: u64,
    failures: u64,
    in_flight: u64,
    /// Requests in flight that its updates count as for the bound, beside `in_flight`.
    #[serde(skip_serializing_if = "is_zero")]
    update_load: u64,
    updates: u64,
    update_bytes: u64,
    updates_refused: u64,
    updates_dropped: u64,
    /// Over the last interval of each reporter.
    updates_per_s: f64,
    /// The share of all keys, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
    /// The capacity that the bound leaves it now, if requested and it has a bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

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

async fn view(
    fleet: &dyn Fleet,
    service: ServiceName,
    registry: Vec<Registered>,
    loads: Vec<StoredLoad>,
    parts: &BTreeMap<InstanceId, Part>,
) -> Result<View, StoreError> {
    let totals = fleet.totals(&service).await?;
    let rates = rate::of_instances(&loads);
    let mut instances: BTreeMap<InstanceId, InstanceView> = BTreeMap::new();
    for reported in loads.iter().flat_map(|load| &load.instances) {
        let seen = instances.entry(reported.id.clone()).or_insert_with(|| {
            let totals = totals.get(&reported.id).copied().unwrap_or_default();
            let part = parts.get(&reported.id);
            InstanceView {
                id: reported.id.clone(),
                address: reported.address.clone(),
                weight: reported.weight,
                healthy: true,
                draining: false,
                warmth: 100,
                calls: totals.calls,
                failures: totals.failures,
                in_flight: 0,
                update_load: 0,
                updates: totals.updates,
                update_bytes: totals.update_bytes,
                updates_refused: totals.updates_refused,
                updates_dropped: totals.updates_dropped,
                updates_per_s: rates
                    .get(&reported.id)
                    .map_or(0.0, |rate| rate.per_second()),
                share: part.map(|part| part.share),
                capacity: part.and_then(|part| part.capacity),
            }
        });
        // Weight 0 is that of a filter whose table does not contain it.
        seen.weight = seen.weight.max(reported.weight);
        seen.healthy &= reported.healthy;
        seen.draining |= reported.draining;
        seen.warmth = seen.warmth.min(reported.warmth);
        seen.in_flight = seen.in_flight.saturating_add(reported.in_flight);
        seen.update_load = seen.update_load.saturating_add(reported.update_load);
    }
    Ok(View {
        ring: loads::latest(&loads)
            .and_then(|load| load.source.reported())
            .map(|reported| reported.ring.clone()),
        registry,
        reporters: loads
            .into_iter()
            .map(|load| reporter(load, now_ms()))
            .collect(),
        instances: instances.into_values().collect(),
        service,
    })
}

fn reporter(load: StoredLoad, now_ms: u64) -> ReporterView {
    let counts = load.instances.iter().map(Totals::reported);
    let counts = counts.fold(Totals::default(), Totals::plus);
    let rates = load.update_rates.values().copied();
    let rate = rates.fold(UpdateRate::default(), UpdateRate::plus);
    // Of a reporter of another unit only its loads are known.
    let reported = match load.source {
        LoadSource::Reporter(reported) => Some(reported),
        LoadSource::Unit(_) => None,
    };
    ReporterView {
        age_ms: now_ms.saturating_sub(load.taken_ms),
        reporter: load.reporter,
        alive_until_ms: load.alive_until_ms,
        ring: reported
            .as_ref()
            .map_or_else(String::new, |it| it.ring.version.clone()),
        bound: reported.as_ref().and_then(|it| it.bound),
        fallbacks: reported.as_ref().map_or(0, |it| it.fallbacks),
        updates: counts.updates,
        update_bytes: counts.update_bytes,
        updates_refused: counts.updates_refused,
        updates_dropped: counts.updates_dropped,
        updates_per_s: rate.per_second(),
        wiring: reported.map_or_else(Vec::new, |it| it.wiring),
    }
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
