//! Counters and gauges, and their Prometheus text.
//!
//! Invariant: no label set grows without bound. Only services, instances, units and kinds of
//! findings are labels. Each scrape writes them from the store's bounded state, so an entry that is
//! removed there disappears here.

mod updates;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use unitring_protocol::ids::{InstanceId, ServiceName, UnitId};

use crate::loads::wiring::{self, Miswired};

pub use updates::{UpdateCounts, UpdateOutcome};

/// Most instances shown; `GET /v1/services` has all.
pub const INSTANCES_SHOWN_MAX: usize = 2_000;
/// Most pairs of a service and a kind of finding shown; `GET /v1/services` has all.
pub const FINDINGS_SHOWN_MAX: usize = 1_000;

/// A value of an instance.
type Value = fn(&Shown) -> String;
type Count = Counter<u64>;
type Level = Gauge<u64, AtomicU64>;
type Signed = Gauge<i64, AtomicI64>;

macro_rules! metrics {
    ($($name:ident: $kind:ty, $help:literal;)*) => {
        /// Counters and gauges of this process.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $name: $kind,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::with_prefix("unitring");
                $(let $name = <$kind>::default();
                registry.register(stringify!($name), $help, $name.clone());)*
                Self { registry, $($name,)* }
            }
        }
    };
}

metrics! {
    reports: Count, "Reports taken";
    reports_old: Count, "Reports dropped because a newer one was known";
    reports_refused: Count, "Reports refused: newer, malformed, or too many reporters";
    events_stored: Count, "Instance events stored";
    instances_expired: Count, "Instances removed because their time to live ran out";
    records_written: Count, "Records put or deleted here";
    records_swept: Count, "Records freed because they had expired";
    updates: UpdateCounts, "Data updates that filters sent, by what became of them";
    update_bytes: Count, "Bytes of the values that data updates put";
    writes_refused: Count, "Writes refused because the outbox is full";
    requests_unauthorized: Count, "Requests without the token they need, or with one that may not do this";
    requests_foreign: Count, "Requests refused because a page of another site may have sent them";
    connections_displaced: Count, "Quiet connections closed to make room for new ones";
    connections_refused: Count, "Connections refused because all others were at work";
    accepts_failed: Count, "Connections that the system did not hand over, as without a free descriptor";
    handshakes_failed: Count, "Connections without an agreement on TLS";
    connections_too_slow: Count, "Connections closed because their client was too slow to send a head or to read an answer";
    questions_refused: Count, "Questions that need a ring refused because too many waited";
    reporters_displaced: Count, "Quiet reporters forgotten to make room for new ones";
    reloads_failed: Count, "Reloads of the settings that failed, so that the last ones stayed in force";
    requests_shed: Count, "Requests refused because too many, or too many bytes of them, were in flight";
    requests_too_large: Count, "Requests refused because their body was too large";
    requests_timed_out: Count, "Requests that were not answered in time";
    writes_too_many: Count, "Requests refused because a limit on stored items was reached";
    loads_lowered: Count, "Loads in reports that were implausibly high and were clamped";
    instances_hidden: Level, "Instances left out of this page because there are too many";
    findings_hidden: Level, "Pairs of service and finding left out of this page because there are too many";
    findings_cut: Count, "Findings of a filter left out or shortened because there were too many";
    watchers_behind: Count, "Times that a watcher of a dataset fell behind and had to read from the store";
    event_streams_refused: Count, "Event streams refused because too many were open";
    store_errors: Count, "Requests to the store that failed";
    xds_streams: Level, "Open endpoint discovery streams";
    xds_streams_refused: Count, "Endpoint discovery streams refused: too many streams, or too many names in one";
    xds_pushes: Count, "Endpoint assignments sent";
    xds_nacks: Count, "Endpoint assignments refused by an Envoy";
    leader: Level, "1 while this companion leads its unit";
    group_healthy: Level, "1 while the unit's group of Redis servers is healthy";
    group_servers_away: Level, "Servers of the group that do not answer";
    group_replicas_linked: Level, "Replicas of the group whose link to the primary is up";
    group_lag_bytes: Level, "Replication lag of the slowest replica, in bytes";
    group_memory_percent: Level, "Memory of the fullest server of the group, in percent of its limit";
    group_degradations: Count, "Times that the group became degraded";
    group_events_dropped: Count, "Events of the group dropped because the store took no writes for too long";
    outbox_ops: Level, "Ops that wait for the other units";
    outbox_bytes: Level, "Estimated bytes of the ops in the outbox";
    outbox_dropped: Count, "Ops that left a full outbox before every unit had them";
    link_up: Level, "1 while this unit reads its queue and can send to another unit";
    links_blocked: Count, "Times that a broker blocked a connection";
    bytes_published: Count, "Bytes of messages handed to brokers";
    link_failures: Count, "Connections to the broker that ended or failed";
    ops_published: Count, "Ops confirmed by the broker";
    publishes_failed: Count, "Messages that the broker did not confirm";
    ops_received: Count, "Ops received from other units";
    records_applied: Count, "Records changed by other units";
    sequence_gaps: Count, "Ops that arrived before an earlier one";
    apply_failures: Count, "Batches that could not be applied and are retried";
    poison_messages: Count, "Messages set aside because they cannot be read";
    namesakes: Count, "Digests of a unit in whose name two stores speak";
    strangers: Count, "Messages set aside because their unit is not a member";
    conflicts: Count, "Concurrent changes of a record seen here";
    records_refused: Count, "Records of a repair not applied because they may be deleted";
    store_went_back: Count, "Buckets whose store went back to an older copy of itself";
    changes_unsendable: Count, "Changes left out of a message because they are too large for the broker";
    records_set_aside: Count, "Records of other units set aside: over a bound, or too far in the future";
    digests_recounted: Count, "Buckets whose wrong digest was recomputed";
    store_clock_ahead_ms: Signed, "How far the clock of the store is ahead of the companion's, in milliseconds";
    records_spoiled: Level, "Corrupt records in the store that are left out";
    tombstones_collected: Count, "Tombstones and expired records collected";
    skipped_buckets: Count, "Buckets of which a sender no longer had all ops";
    clock_skew_alarms: Count, "Times that another unit's clock went over the skew limit";
    unit_loads: Count, "Load messages received from other units";
    unit_loads_merged: Count, "Times that loads were merged per service because there were too many";
    unit_events: Count, "Instance events received from other units";
    fixed_loaded: Count, "Versions of fixed data loaded from another unit";
    fixed_refused: Count, "Fixed data of another unit refused for a wrong checksum";
    diverged_buckets: Count, "Buckets found to differ from another unit's at equal positions";
    stalled_buckets: Count, "Buckets that missed ops of another unit and asked for them";
    repaired_records: Count, "Records changed by a repair";
    repairs_dropped: Count, "Requested repairs that were dropped: over the bound, or not sent";
}

/// The values of an instance.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its service.
    pub service: ServiceName,
    /// The instance.
    pub instance: InstanceId,
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
}

impl Metrics {
    /// The Prometheus text: this process's metrics, then the instances'.
    ///
    /// # Errors
    /// None in practice: writing to a string does not fail.
    pub fn text(
        &self,
        instances: &[Shown],
        found: &[Miswired],
        units: &BTreeMap<UnitId, ShownLink>,
    ) -> Result<String, std::fmt::Error> {
        let hidden = instances.len().saturating_sub(INSTANCES_SHOWN_MAX);
        self.instances_hidden
            .set(u64::try_from(hidden).unwrap_or(u64::MAX));
        let findings = wiring::reporters(found);
        let hidden = findings.len().saturating_sub(FINDINGS_SHOWN_MAX);
        self.findings_hidden
            .set(u64::try_from(hidden).unwrap_or(u64::MAX));
        let mut own = String::new();
        encode(&mut own, &self.registry)?;
        let body = own.strip_suffix("# EOF\n").unwrap_or(&own);
        let mut text = body.to_owned();
        let families: [(&str, &str, Value); 8] = [
            ("instance_calls_total", "counter", |shown| {
                shown.calls.to_string()
            }),
            ("instance_failures_total", "counter", |shown| {
                shown.failures.to_string()
            }),
            ("instance_updates_total", "counter", |shown| {
                shown.updates.to_string()
            }),
            ("instance_update_bytes_total", "counter", |shown| {
                shown.update_bytes.to_string()
            }),
            ("instance_updates_refused_total", "counter", |shown| {
                shown.updates_refused.to_string()
            }),
            ("instance_updates_dropped_total", "counter", |shown| {
                shown.updates_dropped.to_string()
            }),
            ("instance_updates_per_second", "gauge", |shown| {
                shown.updates_per_s.to_string()
            }),
            ("instance_in_flight", "gauge", |shown| {
                shown.in_flight.to_string()
            }),
        ];
        for (name, kind, value) in families {
            let family = name.strip_suffix("_total").unwrap_or(name);
            writeln!(text, "# TYPE unitring_{family} {kind}")?;
            for shown in instances.iter().take(INSTANCES_SHOWN_MAX) {
                let service = label(shown.service.as_str());
                let (id, value) = (label(shown.instance.as_str()), value(shown));
                writeln!(
                    text,
                    "unitring_{name}{{service=\"{service}\",instance=\"{id}\"}} {value}"
                )?;
            }
        }
        writeln!(text, "# TYPE unitring_wiring_findings gauge")?;
        for ((service, kind), reporters) in findings.iter().take(FINDINGS_SHOWN_MAX) {
            let (service, kind) = (label(service.as_str()), label(kind));
            writeln!(
                text,
                "unitring_wiring_findings{{service=\"{service}\",kind=\"{kind}\"}} {reporters}"
            )?;
        }
        of_units(&mut text, units)?;
        text.push_str("# EOF\n");
        Ok(text)
    }
}

/// Escapes a name for a label's value. Names have no line break, the third character that needs it.
fn label(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The values of the link to a unit.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShownLink {
    /// Whether the link is up.
    pub is_up: bool,
    /// Ops that the broker confirmed for it.
    pub confirmed: u64,
    /// Ops that the peer has and this unit lacks, at the last comparison.
    pub missing_ops: Option<u64>,
    /// Buckets that differed then.
    pub diverged_buckets: Option<usize>,
    /// How far its clock is ahead of ours, in ms.
    pub clock_skew_ms: Option<i64>,
    /// The replication lag of its last changes in ms: median and 99th percentile.
    pub lag_ms: Option<[u64; 2]>,
}

/// A value of a link, if it is known.
type LinkValue = fn(&ShownLink) -> Option<String>;

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

/// The metrics of the links; their units are at most [`crate::config::UNITS_MAX`].
fn of_units(text: &mut String, units: &BTreeMap<UnitId, ShownLink>) -> std::fmt::Result {
    let families: [(&str, LinkValue); 5] = [
        ("unit_link_up", |link| {
            Some(u8::from(link.is_up).to_string())
        }),
        ("unit_confirmed_ops", |link| {
            Some(link.confirmed.to_string())
        }),
        ("unit_missing_ops", |link| {
            Some(link.missing_ops?.to_string())
        }),
        ("unit_diverged_buckets", |link| {
            Some(link.diverged_buckets?.to_string())
        }),
        ("unit_clock_skew_seconds", |link| {
            let skew_ms = link.clock_skew_ms?;
            let sign = if skew_ms < 0 { "-" } else { "" };
            Some(format!("{sign}{}", seconds(skew_ms.unsigned_abs())))
        }),
    ];
    for (name, value) in families {
        writeln!(text, "# TYPE unitring_{name} gauge")?;
        for (unit, link) in units {
            if let Some(value) = value(link) {
                writeln!(text, "unitring_{name}{{unit=\"{unit}\"}} {value}")?;
            }
        }
    }
    writeln!(text, "# TYPE unitring_unit_lag_seconds gauge")?;
    for (unit, link) in units {
        let Some([p50_ms, p99_ms]) = link.lag_ms else {
            continue;
        };
        for (quantile, ms) in [("0.5", p50_ms), ("0.99", p99_ms)] {
            writeln!(
                text,
                "unitring_unit_lag_seconds{{unit=\"{unit}\",quantile=\"{quantile}\"}} {}",
                seconds(ms)
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
