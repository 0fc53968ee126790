//! Services and their instances, as all Envoys report them.
//!
//! The labels are those of the filter's own metrics: `service` is the Envoy cluster, `upstream` the instance's id.
//! (A scraper would overwrite `instance`, which is its own label.)

use std::fmt;
use std::time::Duration;

use unitring_protocol::ids::{InstanceId, ServiceName};

use super::page::{Kind, Page};
use super::{FINDINGS_SHOWN_MAX, INSTANCES_SHOWN_MAX};
use crate::loads::wiring::{self, Miswired};
use crate::store::LogSize;

/// The values of an instance.
#[derive(Debug, Clone)]
pub(crate) struct ShownInstance {
    pub service: ServiceName,
    pub instance: InstanceId,
    pub address: String,
    /// Whether all reporters say that it takes requests.
    pub healthy: bool,
    /// Whether any reporter says that it drains.
    pub draining: bool,
    /// Attempts sent to it.
    pub calls: u64,
    /// Failed attempts among them.
    pub failures: u64,
    /// Data updates that it announced.
    pub updates: u64,
    /// Bytes of their values.
    pub update_bytes: u64,
    /// Announcements that were refused.
    pub updates_refused: u64,
    /// Updates that did not reach the companion in time.
    pub updates_dropped: u64,
    /// Data updates per second now.
    pub updates_per_s: f64,
    /// Requests in flight over all reporters.
    pub in_flight: u64,
    /// Requests in flight that its updates count as for the bound.
    pub update_load: u64,
    /// The capacity that the bound gives it; `None` without a bound.
    pub capacity: Option<u64>,
    /// The share of all keys that it owns, 0 to 1; `None` while no ring is known.
    pub share: Option<f64>,
}

/// The values of a service.
#[derive(Debug, Clone)]
pub(crate) struct ShownService {
    pub service: ServiceName,
    /// Envoys that report on it.
    pub reporters: usize,
}

/// The size of the event log.
pub(super) fn log(page: &mut Page, log: &LogSize, now_ms: u64) -> fmt::Result {
    let help = "Bytes of the entries in the event log";
    page.single(
        "unitring_companion_event_log_bytes",
        Kind::Gauge,
        help,
        log.bytes,
    )?;
    let help = "Entries in the event log";
    page.single(
        "unitring_companion_event_log_entries",
        Kind::Gauge,
        help,
        log.entries,
    )?;
    let Some(oldest_ms) = log.oldest_ms else {
        return Ok(());
    };
    let age = Duration::from_millis(now_ms.saturating_sub(oldest_ms)).as_secs_f64();
    let help = "Age of the oldest entry in the event log, in seconds";
    page.single(
        "unitring_companion_event_log_age_seconds",
        Kind::Gauge,
        help,
        age,
    )
}

/// A family with a sample for each instance.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    /// Whether it was shown before as `unitring_…` with a label `instance`.
    pub(super) is_old: bool,
    pub(super) value: fn(&ShownInstance) -> Option<String>,
}

const fn family(
    name: &'static str,
    kind: Kind,
    is_old: bool,
    help: &'static str,
    value: fn(&ShownInstance) -> Option<String>,
) -> Family {
    Family {
        name,
        kind,
        help,
        is_old,
        value,
    }
}

pub(super) const INSTANCE_FAMILIES: [Family; 13] = [
    family(
        "instance_healthy",
        Kind::Gauge,
        false,
        "1 while every Envoy that reports the instance lets it take requests",
        |shown| Some(u8::from(shown.healthy).to_string()),
    ),
    family(
        "instance_draining",
        Kind::Gauge,
        false,
        "1 while the instance drains: it gets no new keys",
        |shown| Some(u8::from(shown.draining).to_string()),
    ),
    family(
        "instance_in_flight",
        Kind::Gauge,
        true,
        "Requests in flight on the instance, over all Envoys",
        |shown| Some(shown.in_flight.to_string()),
    ),
    family(
        "instance_update_load",
        Kind::Gauge,
        false,
        "Requests in flight as which the bound counts the instance's data updates, in addition to the real ones",
        |shown| Some(shown.update_load.to_string()),
    ),
    family(
        "instance_capacity",
        Kind::Gauge,
        false,
        "Requests in flight that the bound allows the instance now; absent without a bound",
        |shown| Some(shown.capacity?.to_string()),
    ),
    family(
        "instance_share_ratio",
        Kind::Gauge,
        false,
        "Share of all keys that the instance owns, from 0 to 1; absent where keys are left to Envoy",
        |shown| Some(shown.share?.to_string()),
    ),
    family(
        "instance_calls_total",
        Kind::Counter,
        true,
        "Attempts sent to the instance, over all Envoys",
        |shown| Some(shown.calls.to_string()),
    ),
    family(
        "instance_failures_total",
        Kind::Counter,
        true,
        "Attempts on the instance that failed, over all Envoys",
        |shown| Some(shown.failures.to_string()),
    ),
    family(
        "instance_updates_total",
        Kind::Counter,
        true,
        "Data updates that the instance announced",
        |shown| Some(shown.updates.to_string()),
    ),
    family(
        "instance_update_bytes_total",
        Kind::Counter,
        true,
        "Bytes of the values of the data updates that the instance announced",
        |shown| Some(shown.update_bytes.to_string()),
    ),
    family(
        "instance_updates_refused_total",
        Kind::Counter,
        true,
        "Data updates of the instance that were refused: malformed, too large, or not allowed",
        |shown| Some(shown.updates_refused.to_string()),
    ),
    family(
        "instance_updates_dropped_total",
        Kind::Counter,
        true,
        "Data updates of the instance that did not reach the companion in time",
        |shown| Some(shown.updates_dropped.to_string()),
    ),
    family(
        "instance_updates_per_second",
        Kind::Gauge,
        true,
        "Data updates per second over the last report interval of each Envoy, summed",
        |shown| Some(shown.updates_per_s.to_string()),
    ),
];

/// A family for each value, with a sample for each instance.
pub(super) fn instances(page: &mut Page, instances: &[ShownInstance]) -> fmt::Result {
    let shown = || instances.iter().take(INSTANCES_SHOWN_MAX);
    for family in &INSTANCE_FAMILIES {
        let name = format!("unitring_companion_{}", family.name);
        page.family(&name, family.kind, family.help)?;
        for shown in shown() {
            let Some(value) = (family.value)(shown) else {
                continue;
            };
            let labels = [
                ("service", shown.service.as_str()),
                ("upstream", shown.instance.as_str()),
            ];
            page.sample(&name, &labels, value)?;
        }
    }
    let name = "unitring_companion_instance_info";
    let help = "Always 1; the label address says where the instance is";
    page.family(name, Kind::Gauge, help)?;
    for shown in shown() {
        let labels = [
            ("service", shown.service.as_str()),
            ("upstream", shown.instance.as_str()),
            ("address", shown.address.as_str()),
        ];
        page.sample(name, &labels, 1)?;
    }
    Ok(())
}

/// The services with their reporters, and requests that these left to Envoy.
pub(super) fn services(
    page: &mut Page,
    services: &[ShownService],
    fallbacks: &[(ServiceName, u64)],
) -> fmt::Result {
    let name = "unitring_companion_service_reporters";
    page.family(name, Kind::Gauge, "Envoys that report on the service")?;
    for shown in services.iter().take(INSTANCES_SHOWN_MAX) {
        let labels = [("service", shown.service.as_str())];
        page.sample(name, &labels, shown.reporters)?;
    }
    let name = "unitring_companion_service_fallbacks_total";
    let help = "Requests that filters left to Envoy's own policy, by the reports that this companion took; several companions of a unit may count the same request, so take their maximum";
    page.family(name, Kind::Counter, help)?;
    for (service, count) in fallbacks.iter().take(INSTANCES_SHOWN_MAX) {
        page.sample(name, &[("service", service.as_str())], count)?;
    }
    Ok(())
}

/// The findings of filters in their wiring.
pub(super) fn wiring(page: &mut Page, prefix: &str, help: &str, found: &[Miswired]) -> fmt::Result {
    let name = format!("{prefix}_wiring_findings");
    page.family(&name, Kind::Gauge, help)?;
    for ((service, kind), reporters) in wiring::reporters(found).iter().take(FINDINGS_SHOWN_MAX) {
        let labels = [("service", service.as_str()), ("kind", kind)];
        page.sample(&name, &labels, reporters)?;
    }
    Ok(())
}
