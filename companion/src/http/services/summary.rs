//! A service as sums: what a list of many of them has to show. Pure.

use serde::Serialize;
use unitring_protocol::ids::ServiceName;
use unitring_protocol::report::RingReport;

use super::View;

/// A service in sums over its instances and reporters.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) service: ServiceName,
    /// The ring of the latest report.
    ring: Option<RingReport>,
    /// Instances in the registry.
    registered: usize,
    reporters: usize,
    /// Requests that reporters left to Envoy's own policy.
    fallbacks: u64,
    /// Mistakes in the wiring, over all reporters.
    wiring: usize,
    /// Instances that reporters know …
    instances: usize,
    /// … and how many of them are draining, unhealthy, or do not have their whole weight yet. An instance counts once,
    /// for the first of these.
    draining: usize,
    unhealthy: usize,
    warming: usize,
    calls: u64,
    failures: u64,
    in_flight: u64,
    updates: u64,
    updates_per_s: f64,
}

impl Summary {
    pub(super) fn of(view: &View) -> Self {
        let mut summary = Self {
            service: view.service.clone(),
            ring: view.ring.clone(),
            registered: view.registry.len(),
            reporters: view.reporters.len(),
            fallbacks: 0,
            wiring: 0,
            instances: view.instances.len(),
            draining: 0,
            unhealthy: 0,
            warming: 0,
            calls: 0,
            failures: 0,
            in_flight: 0,
            updates: 0,
            updates_per_s: 0.0,
        };
        for reporter in &view.reporters {
            summary.fallbacks = summary.fallbacks.saturating_add(reporter.fallbacks);
            summary.wiring += reporter.wiring.len();
        }
        for instance in &view.instances {
            // A filter reports what drains as not healthy, too.
            if instance.draining {
                summary.draining += 1;
            } else if !instance.healthy {
                summary.unhealthy += 1;
            } else if instance.warmth < 100 {
                summary.warming += 1;
            }
            summary.calls = summary.calls.saturating_add(instance.calls);
            summary.failures = summary.failures.saturating_add(instance.failures);
            summary.in_flight = summary.in_flight.saturating_add(instance.in_flight);
            summary.updates = summary.updates.saturating_add(instance.updates);
            summary.updates_per_s += instance.updates_per_s;
        }
        summary
    }
}
