//! Counters, gauges and histograms, and their page in Prometheus' text format.
//!
//! Invariant: no label set grows without bound. Labels are services, instances, units, kinds of findings, and values
//! that this program chooses. Each scrape writes the first three from the store's bounded state, so an entry that is
//! removed there disappears here. A companion does not show metrics of parts that it lacks, such as a group of servers
//! or peers: a 0 would read as a fault.
//!
//! | module | what |
//! |---|---|
//! | `page` | the format |
//! | `labelled` | metrics with labels that this program chooses |
//! | `fleet` | services and instances |
//! | `fallbacks` | requests left to Envoy, by service |
//! | `links` | other units |
//! | `process` | the process and its build |
//! | `old` | the former names |

mod fallbacks;
mod fleet;
mod labelled;
mod links;
mod old;
mod page;
mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use unitring_protocol::ids::{ReporterId, ServiceName, UnitId};

use crate::loads::wiring::{self, Miswired};
use crate::store::LogSize;

use fallbacks::Fallbacks;
pub(crate) use fleet::{ShownInstance, ShownService};
pub(crate) use labelled::{Lags, RequestTimes, UpdateCounts, UpdateOutcome};
pub(crate) use links::ShownLink;
use page::{Kind, Page};

/// Most instances shown, and most services; `GET /v1/services` has all.
pub(crate) const INSTANCES_SHOWN_MAX: usize = 2_000;
/// Most pairs of a service and a kind of finding shown; `GET /v1/services` has all.
pub(crate) const FINDINGS_SHOWN_MAX: usize = 1_000;

type Count = Counter<u64>;
type Level = Gauge<u64, AtomicU64>;
type Signed = Gauge<f64, AtomicU64>;

/// Metrics that are new, or have a new name or unit.
const RENAMED: [&str; 12] = [
    "clock_doubted_seconds",
    "clock_doubts",
    "events_merged",
    "events_left_out",
    "ops_superseded",
    "spans_ended",
    "spans_exported",
    "spans_lost",
    "store_up",
    "store_clock_ahead_seconds",
    "request_duration_seconds",
    "unit_lag_seconds",
];

macro_rules! metrics {
    ($($(#[$about:meta])* $part:ident { $($name:ident: $kind:ty, $help:literal;)* })*) => {
        /// The metrics of this process.
        #[derive(Debug)]
        pub(crate) struct Metrics {
            parts: Parts,
            old: Parts,
            fallbacks: Mutex<Fallbacks>,
            $($(#[doc = $help] pub $name: $kind,)*)*
        }

        /// The metrics by the part of the companion that has them.
        #[derive(Debug)]
        struct Parts {
            $($(#[$about])* $part: Registry,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                let parts = |prefix| Parts { $($part: Registry::with_prefix(prefix),)* };
                let (mut parts, mut old) = (parts("unitring_companion"), parts("unitring"));
                $($(let $name = <$kind>::default();
                let (name, help) = (stringify!($name), $help);
                parts.$part.register(name, help, $name.clone());
                if !RENAMED.contains(&name) {
                    old.$part.register(name, help, $name.clone());
                })*)*
                Self { parts, old, fallbacks: Mutex::default(), $($($name,)*)* }
            }
        }
    };
}

metrics! {
    /// Metrics of every companion.
    always {
        reports: Count, "Reports taken";
        reports_old: Count, "Reports dropped because a newer one was known";
        reports_refused: Count, "Reports refused: newer, malformed, or too many reporters";
        events_stored: Count, "Events of instances that filters reported and that became entries of the event log";
        events_merged: Count, "Events of instances that filters reported and that were counted with an equal entry of the event log";
        events_left_out: Count, "Events of instances left out of the event log because their reporter had added too many";
        instances_expired: Count, "Instances removed because their time to live ran out";
        records_written: Count, "Records put or deleted here";
        records_swept: Count, "Records freed because they had expired";
        updates: UpdateCounts, "Data updates that filters sent, by outcome";
        update_bytes: Count, "Bytes of the values that data updates put";
        requests_unauthorized: Count, "Requests without a valid credential, or whose credential lacks the role";
        requests_foreign: Count, "Requests refused because a page of another site may have sent them";
        connections_displaced: Count, "Quiet connections closed to make room for new ones";
        connections_refused: Count, "Connections refused because all open ones were in use";
        accepts_failed: Count, "Connections that the operating system did not hand over, for example without a free file descriptor";
        handshakes_failed: Count, "TLS handshakes that failed";
        connections_too_slow: Count, "Connections closed because their client was too slow to send a head or to read an answer";
        questions_refused: Count, "Requests that need a ring refused because too many of them waited";
        reporters_displaced: Count, "Quiet reporters forgotten to make room for new ones";
        reloads_failed: Count, "Reloads of the settings that failed; the last settings stayed in force";
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
        digests_recounted: Count, "Buckets whose wrong digest was recomputed";
        records_spoiled: Level, "Corrupt records in the store that are left out";
        tombstones_collected: Count, "Tombstones and expired records collected";
        store_up: Level, "1 while the store answers this page";
        clock_doubted_seconds: Signed, "How far the companion's clock is ahead of the time by which its store frees what expires, in seconds, while it is doubted";
        clock_doubts: Count, "Times that the companion's clock was found to be ahead of its store's time";
        store_clock_ahead_seconds: Signed, "How far the clock of the store is ahead of the companion's, in seconds";
        request_duration_seconds: RequestTimes, "Time until answers of the HTTP API began, in seconds";
    }
    /// Metrics of a companion that traces.
    traces {
        spans_ended: Count, "Spans that ended: exported, lost, waiting, or without room to wait";
        spans_exported: Count, "Spans that were sent to the collector, which may have refused some";
        spans_lost: Count, "Spans that could not be sent to the collector";
    }
    /// Metrics of a companion that watches the servers of its group.
    group_watch {
        group_healthy: Level, "1 while the unit's group of Redis servers is healthy";
        group_servers_away: Level, "Servers of the group that do not answer";
        group_replicas_linked: Level, "Replicas of the group whose link to the primary is up";
        group_lag_bytes: Level, "Replication lag of the slowest replica, in bytes";
    }
    /// Metrics of a unit with a group of servers.
    group {
        group_degradations: Count, "Times that the group became degraded";
        group_events_dropped: Count, "Events of the group dropped because the store took no writes for too long";
    }
    /// Metrics of the leader of a unit with peers.
    leader_link {
        outbox_bytes: Level, "Estimated bytes of the ops in the outbox";
        outbox_ops: Level, "Ops that wait for the other units";
        link_up: Level, "1 while this unit reads its queue and can send to another unit";
    }
    /// Metrics of a unit with peers.
    sync {
        outbox_dropped: Count, "Ops that left a full outbox before every unit had them";
        writes_refused: Count, "Writes refused because the outbox is full";
        links_blocked: Count, "Times that a broker blocked a connection";
        bytes_published: Count, "Bytes of messages handed to brokers";
        link_failures: Count, "Connections to the broker that ended or failed";
        ops_published: Count, "Ops confirmed by the broker";
        ops_superseded: Count, "Ops not sent because a later op of their record was sent with the same message";
        publishes_failed: Count, "Messages that the broker did not confirm";
        ops_received: Count, "Ops received from other units";
        records_applied: Count, "Records changed by other units";
        sequence_gaps: Count, "Ops that arrived before an earlier one";
        apply_failures: Count, "Batches that could not be applied and are retried";
        poison_messages: Count, "Messages set aside because they cannot be read";
        namesakes: Count, "Digests received from a unit whose name two stores use";
        strangers: Count, "Messages set aside because their unit is not a member";
        conflicts: Count, "Concurrent changes of a record seen here";
        records_refused: Count, "Records of a repair not applied because they may be deleted";
        store_went_back: Count, "Buckets whose store went back to an older copy of itself";
        changes_unsendable: Count, "Changes left out of a message because they are too large for the broker";
        records_set_aside: Count, "Records and other entries of messages set aside alone: unreadable, over a bound, or too far in the future";
        skipped_buckets: Count, "Buckets for which the sender no longer had all ops";
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
        unit_lag_seconds: Lags, "How long changes of another unit took to be applied here, in seconds";
    }
}

/// The input of a scrape beside the metrics of the process.
#[derive(Debug, Default)]
pub(crate) struct Seen<'a> {
    /// The instances of all services, as far as they were read.
    pub instances: &'a [ShownInstance],
    pub services: &'a [ShownService],
    /// The reporters that are wired wrongly.
    pub found: &'a [Miswired],
    /// Whether requests are traced.
    pub traces: bool,
    /// Whether the unit has peers.
    pub has_peers: bool,
    /// Its links to them, if this companion leads.
    pub links: Option<&'a BTreeMap<UnitId, ShownLink>>,
    /// Whether the unit has a group of servers.
    pub has_group: bool,
    /// Whether this companion watches it.
    pub watches_group: bool,
    /// The size of the event log, if the store answered.
    pub log: Option<LogSize>,
    /// The memory of its fullest server as a part of its limit, if it has one.
    pub group_memory_ratio: Option<f64>,
    /// The time, in ms since the Unix epoch.
    pub now_ms: u64,
}

impl Metrics {
    /// Takes the number of requests that a reporter has left to Envoy so far; it is remembered until the second time.
    pub(crate) fn took_fallbacks(
        &self,
        service: &ServiceName,
        reporter: &ReporterId,
        count: u64,
        times: (u64, u64),
    ) {
        let mut fallbacks = self
            .fallbacks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        fallbacks.took(service, reporter, count, times);
    }

    /// The page: this process's metrics, the fleet's, and all by their former names.
    ///
    /// # Errors
    /// None in practice: writing to a string does not fail.
    pub(crate) fn text(&self, seen: &Seen<'_>) -> Result<String, fmt::Error> {
        let hidden = seen.instances.len().saturating_sub(INSTANCES_SHOWN_MAX);
        self.instances_hidden
            .set(u64::try_from(hidden).unwrap_or(u64::MAX));
        let findings = wiring::reporters(seen.found).len();
        let hidden = findings.saturating_sub(FINDINGS_SHOWN_MAX);
        self.findings_hidden
            .set(u64::try_from(hidden).unwrap_or(u64::MAX));
        let fallbacks = {
            let mut fallbacks = self
                .fallbacks
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            fallbacks.totals(seen.now_ms)
        };
        let mut page = Page::default();
        process::build(&mut page)?;
        process::usage(&mut page)?;
        for registry in self.parts.shown(seen) {
            page.library(registry, |_| None)?;
        }
        if let Some(ratio) = seen.group_memory_ratio {
            let name = "unitring_companion_group_memory_ratio";
            let help = "Memory of the fullest server of the group, as a part of its limit";
            page.single(name, Kind::Gauge, help, ratio)?;
        }
        if let Some(log) = &seen.log {
            fleet::log(&mut page, log, seen.now_ms)?;
        }
        fleet::services(&mut page, seen.services, &fallbacks)?;
        fleet::instances(&mut page, seen.instances)?;
        let help = "Envoys whose filter reports this mistake in the wiring";
        fleet::wiring(&mut page, "unitring_companion", help, seen.found)?;
        if let Some(units) = seen.links {
            links::units(&mut page, units)?;
        }
        for registry in self.old.shown(seen) {
            page.library(registry, |old| {
                let new = old.strip_prefix("unitring_")?;
                Some(old::help(&format!("unitring_companion_{new}")))
            })?;
        }
        old::write(&mut page, seen)?;
        Ok(page.into_text())
    }
}

impl Parts {
    /// The registries that the companion shows.
    fn shown(&self, seen: &Seen<'_>) -> impl Iterator<Item = &Registry> {
        let parts = [
            (true, &self.always),
            (seen.traces, &self.traces),
            (seen.has_group, &self.group),
            (seen.watches_group, &self.group_watch),
            (seen.has_peers, &self.sync),
            (seen.links.is_some(), &self.leader_link),
        ];
        parts
            .into_iter()
            .filter(|(has, _)| *has)
            .map(|(_, part)| part)
    }
}

#[cfg(test)]
mod tests;
