//! A service as answers have it: its registry, its reporters, and its instances over all of them.

use std::collections::BTreeMap;

use serde::Serialize;
use unitring_protocol::ids::{InstanceId, ReporterId, ServiceName};
use unitring_protocol::report::{BoundReport, Finding, RingReport};

use crate::clock::now_ms;
use crate::explain::Part;
use crate::loads::rate::{self, UpdateRate};
use crate::loads::{self, LoadSource, StoredLoad, Totals};
use crate::registry::Registered;
use crate::store::{Fleet, StoreError};

/// A service in an answer.
#[derive(Debug, Serialize)]
pub(in super::super) struct View {
    pub(super) service: ServiceName,
    /// The ring of the latest report.
    pub(super) ring: Option<RingReport>,
    pub(super) registry: Vec<Registered>,
    pub(super) reporters: Vec<ReporterView>,
    pub(super) instances: Vec<InstanceView>,
}

impl View {
    /// Whether the service has registered instances or living reporters.
    pub(super) fn is_used(&self) -> bool {
        !self.registry.is_empty() || !self.reporters.is_empty()
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ReporterView {
    pub(super) reporter: ReporterId,
    /// How long ago its last report was taken.
    pub(super) age_ms: u64,
    pub(super) alive_until_ms: u64,
    pub(super) ring: String,
    pub(super) bound: Option<BoundReport>,
    pub(super) fallbacks: u64,
    /// The counts of updates since it started, over all instances.
    pub(super) updates: u64,
    pub(super) update_bytes: u64,
    pub(super) updates_refused: u64,
    pub(super) updates_dropped: u64,
    pub(super) updates_per_s: f64,
    /// The findings of that filter: what is wired wrongly.
    pub(super) wiring: Vec<Finding>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct InstanceView {
    pub(super) id: InstanceId,
    pub(super) address: String,
    pub(super) weight: u32,
    pub(super) healthy: bool,
    /// Whether any reporter says that it takes no new keys for good.
    pub(super) draining: bool,
    /// The least warmth that a reporter has for it, in percent of its weight.
    pub(super) warmth: u8,
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) in_flight: u64,
    /// Requests in flight that its updates count as for the bound, beside `in_flight`.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) update_load: u64,
    pub(super) updates: u64,
    pub(super) update_bytes: u64,
    pub(super) updates_refused: u64,
    pub(super) updates_dropped: u64,
    /// Over the last interval of each reporter.
    pub(super) updates_per_s: f64,
    /// The share of all keys, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) share: Option<f64>,
    /// The capacity that the bound leaves it now, if requested and it has a bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) capacity: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What an answer has of a service.
pub(super) async fn view(
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
