//! Counters and gauges, and their Prometheus text.
//!
//! Invariant: no label set grows without bound. Only services, instances, units and kinds of
//! findings are labels. Each scrape writes them from the store's bounded state, so an entry that is
//! removed there disappears here.

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

/// Most instances shown; `GET /v1/services` has all.
pub const INSTANCES_SHOWN_MAX: usize = 2_000;
/// Most pairs of a service and a kind of finding shown; `GET /v1/services` has all.
pub const FINDINGS_SHOWN_MAX: usize = 1_000;

/// A value of an instance.
type Value = fn(&Shown) -> u64;
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
    /// Data updates that it made.
    pub updates: u64,
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
        let families: [(&str, &str, Value); 4] = [
            ("instance_calls_total", "counter", |shown| shown.calls),
            ("instance_failures_total", "counter", |shown| shown.failures),
            ("instance_updates_total", "counter", |shown| shown.updates),
            ("instance_in_flight", "gauge", |shown| shown.in_flight),
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
mod tests {
    use super::*;
    use crate::loads::samples::finding;

    #[test]
    fn the_text_ends_once_and_shows_each_instance_with_its_labels() {
        let metrics = Metrics::default();
        metrics.reports.inc();
        let shown = Shown {
            service: "a \"b\" {é}|\\".parse().unwrap(),
            instance: "a\"b".parse().unwrap(),
            calls: 7,
            failures: 3,
            updates: 0,
            in_flight: 2,
        };
        let found = Miswired {
            service: "a \"b\"".parse().unwrap(),
            reporter: "e1".parse().unwrap(),
            findings: vec![finding("steer_header")],
        };
        let text = metrics.text(&[shown], &[found], &BTreeMap::new()).unwrap();
        assert!(text.contains("unitring_reports_total 1\n"), "{text}");
        let line = r#"unitring_instance_calls_total{service="a \"b\" {é}|\\",instance="a\"b"} 7"#;
        assert!(text.lines().any(|found| found == line), "{text}");
        let line =
            r#"unitring_instance_failures_total{service="a \"b\" {é}|\\",instance="a\"b"} 3"#;
        assert!(text.lines().any(|found| found == line), "{text}");
        let line = r#"unitring_wiring_findings{service="a \"b\"",kind="steer_header"} 1"#;
        assert!(text.lines().any(|found| found == line), "{text}");
        assert_eq!(text.matches("# EOF").count(), 1);
    }

    const HEAD: &str = "# Metrics

What `GET /metrics` of a companion shows, in Prometheus' format. A test holds this page to the program. The stats of the
filter are Envoy's: [settings.md](settings.md#stats).

## With labels

| metric | type | labels | meaning |
|---|---|---|---|
| `unitring_instance_calls_total` | counter | `service`, `instance` | attempts sent to the instance, over all Envoys |
| `unitring_instance_failures_total` | counter | `service`, `instance` | failed attempts among them |
| `unitring_instance_updates_total` | counter | `service`, `instance` | data updates that it made |
| `unitring_instance_in_flight` | gauge | `service`, `instance` | requests in flight on it, over all Envoys |
| `unitring_wiring_findings` | gauge | `service`, `kind` | Envoys whose filter reports this mistake in its wiring |
| `unitring_unit_link_up` | gauge | `unit` | 1 while the link to that unit is up |
| `unitring_unit_confirmed_ops` | gauge | `unit` | ops that the broker confirmed for it |
| `unitring_unit_missing_ops` | gauge | `unit` | ops that it has and this unit lacks, at the last comparison |
| `unitring_unit_diverged_buckets` | gauge | `unit` | buckets that differed then |
| `unitring_unit_clock_skew_seconds` | gauge | `unit` | how far its clock is ahead of this one |
| `unitring_unit_lag_seconds` | gauge | `unit`, `quantile` | how long its last changes took to be here: median and 99th percentile |

At most INSTANCES instances and FINDINGS pairs of service and kind are shown; the metrics `unitring_instances_hidden` and
`unitring_findings_hidden` count the rest. Only the leader of a unit has links.

## Without labels

| metric | type | meaning |
|---|---|---|
";

    #[test]
    fn the_page_of_the_metrics_is_what_the_program_shows() {
        let numbers = [
            ("INSTANCES", INSTANCES_SHOWN_MAX),
            ("FINDINGS", FINDINGS_SHOWN_MAX),
        ];
        let mut page = HEAD.to_owned();
        for (name, number) in numbers {
            page = page.replace(name, &number.to_string());
        }
        let text = Metrics::default().text(&[], &[], &BTreeMap::new()).unwrap();
        let helps: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))
            .collect();
        let mut rows = Vec::new();
        for line in text.lines() {
            let Some((name, kind)) = line
                .strip_prefix("# TYPE ")
                .and_then(|line| line.split_once(' '))
            else {
                continue;
            };
            let suffix = if kind == "counter" { "_total" } else { "" };
            match helps.get(name) {
                Some(help) => {
                    let help = help.trim_end_matches('.');
                    rows.push(format!("| `{name}{suffix}` | {kind} | {help} |\n"));
                }
                None => assert!(
                    page.contains(&format!("| `{name}{suffix}` | {kind} |")),
                    "{name}"
                ),
            }
        }
        rows.sort();
        page.push_str(&rows.concat());
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
        if std::env::var_os("RENEW").is_some() {
            std::fs::write(&file, &page).unwrap();
        }
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            there == page,
            "docs/metrics.md is stale: RENEW=1 cargo test -p unitring the_page_of"
        );
    }
}
