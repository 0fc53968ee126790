//! Envoy stats: process-wide atomics, shared by all VMs.
//!
//! In-flight must be exact across workers and is counted at once. Counters may lag: a VM keeps them
//! and adds them on its timer, so that a request pays for no more calls into Envoy than it must.

use std::cell::Cell;

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

use crate::directory::{Shown, Totals};

/// A counter with what this VM has not added yet.
#[derive(Debug)]
pub(super) struct Counter {
    id: Option<u32>,
    pending: Cell<u64>,
}

impl Counter {
    fn define(name: &str) -> Self {
        Self {
            id: define(MetricType::Counter, name),
            pending: Cell::new(0),
        }
    }

    pub(super) fn add(&self, count: u64) {
        self.pending.set(self.pending.get().saturating_add(count));
    }

    pub(super) fn flush(&self) {
        let pending = i64::try_from(self.pending.take()).unwrap_or(i64::MAX);
        if pending > 0 {
            increment(self.id, pending);
        }
    }

    fn show(&self) -> u64 {
        show(self.id)
    }
}

/// A gauge that every VM moves at once.
#[derive(Debug)]
pub(super) struct Gauge {
    id: Option<u32>,
}

impl Gauge {
    fn define(name: &str) -> Self {
        Self {
            id: define(MetricType::Gauge, name),
        }
    }

    pub(super) fn raise(&self) {
        increment(self.id, 1);
    }

    pub(super) fn lower(&self) {
        increment(self.id, -1);
    }

    /// For a gauge that only the VM with the lease moves.
    pub(super) fn set(&self, value: usize) {
        let value = u64::try_from(value).unwrap_or(u64::MAX);
        if let Some(id) = self.id
            && let Err(status) = hostcalls::record_metric(id, value)
        {
            log::error!("unitring: stat {id} could not be set: {status:?}");
        }
    }

    pub(super) fn show(&self) -> u64 {
        show(self.id)
    }
}

/// Envoy refuses a metric only for a malformed call, which must not cost the request.
fn define(kind: MetricType, name: &str) -> Option<u32> {
    hostcalls::define_metric(kind, name).ok()
}

fn increment(id: Option<u32>, by: i64) {
    if let Some(id) = id
        && let Err(status) = hostcalls::increment_metric(id, by)
    {
        log::error!("unitring: stat {id} could not be changed: {status:?}");
    }
}

fn show(id: Option<u32>) -> u64 {
    id.and_then(|id| hostcalls::get_metric(id).ok())
        .unwrap_or(0)
}

/// The stats of one instance.
#[derive(Debug)]
pub(super) struct InstanceStats {
    pub(super) calls: Counter,
    pub(super) updates: Counter,
    pub(super) in_flight: Gauge,
}

impl InstanceStats {
    /// `stat` is the name that the directory gave it.
    pub(super) fn define(service: &str, stat: &str) -> Self {
        let name = |what: &str| format!("unitring.{service}.{stat}.{what}");
        Self {
            calls: Counter::define(&name("calls")),
            updates: Counter::define(&name("updates")),
            in_flight: Gauge::define(&name("in_flight")),
        }
    }

    pub(super) fn flush(&self) {
        self.calls.flush();
        self.updates.flush();
    }

    pub(super) fn shown(&self) -> Shown {
        let totals = Totals {
            calls: self.calls.show(),
            updates: self.updates.show(),
        };
        Shown {
            totals,
            in_flight: self.in_flight.show(),
        }
    }
}

macro_rules! service_counters {
    ($($(#[$doc:meta])* $field:ident = $name:literal,)*) => {
        /// The stats of the service as a whole.
        #[derive(Debug)]
        pub(super) struct ServiceStats {
            /// Requests in flight that the filter placed.
            pub(super) in_flight: Gauge,
            /// Instances that discovery found.
            pub(super) instances: Gauge,
            /// Those of them that are on the ring.
            pub(super) instances_eligible: Gauge,
            $($(#[$doc])* pub(super) $field: Counter,)*
        }

        impl ServiceStats {
            pub(super) fn define(service: &str) -> Self {
                let name = |what: &str| format!("unitring.{service}.{what}");
                Self {
                    in_flight: Gauge::define(&name("in_flight")),
                    instances: Gauge::define(&name("instances")),
                    instances_eligible: Gauge::define(&name("instances_eligible")),
                    $($field: Counter::define(&name($name)),)*
                }
            }

            pub(super) fn flush(&self) {
                $(self.$field.flush();)*
            }
        }
    };
}

service_counters! {
    /// Placed on another instance, since the owner was at its capacity.
    overflow = "overflow",
    /// Placed on the least loaded, since all were at their capacity.
    least_loaded = "least_loaded",
    /// Left to Envoy's policy: the request has no hash key.
    fallback_no_key = "fallback.no_key",
    /// Left to Envoy's policy: no instances known.
    fallback_no_ring = "fallback.no_ring",
    /// Headers that a client must not set, removed.
    forged_headers = "forged_headers",
    /// Looks at Envoy's clusters that gave members.
    discovery_done = "discovery.done",
    /// Looks that failed; the last members stay.
    discovery_failed = "discovery.failed",
    /// Reports that the companion took.
    report_sent = "report.sent",
    /// Reports that it did not take. They are not queued: the next one has the totals.
    report_failed = "report.failed",
    /// Events dropped because no companion took them in time.
    events_dropped = "events.dropped",
    /// Times that the fleet's load was too old to be used.
    fleet_stale = "fleet.stale",
}

impl ServiceStats {
    /// Requests left to Envoy's policy since the process started.
    pub(super) fn fallbacks(&self) -> u64 {
        self.fallback_no_key
            .show()
            .saturating_add(self.fallback_no_ring.show())
    }
}
