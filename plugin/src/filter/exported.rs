//! The stats of a service under the names that Prometheus' users see, copied once per report by the VM that reports.
//!
//! The filter counts under the older names, `unitring.<service>.…`, which stay for one release. A copy costs a
//! request nothing. A counter grows by its difference from the exported value, so no VM needs to know which VM
//! exported that. A value that did not change costs no call into Envoy, until the VM loses the lease.

use proxy_wasm::types::MetricType;
use unitring_balancer::directory::{Entry, Shown};
use unitring_balancer::exported::{Kind, Prefix};

use super::stats::{ServiceStats, Stat};

/// An exported stat, and the value that this VM gave it last.
#[derive(Debug)]
struct Twin {
    stat: Stat,
    kind: Kind,
    last: Option<u64>,
}

impl Twin {
    fn define(name: &str, kind: Kind) -> Self {
        let of = match kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        };
        Self {
            stat: Stat::define(of, name),
            kind,
            last: None,
        }
    }

    fn set(&mut self, value: u64) {
        if self.last == Some(value) {
            return;
        }
        self.last = Some(value);
        match self.kind {
            Kind::Gauge => self.stat.set(value),
            Kind::Counter => self.stat.add(value.saturating_sub(self.stat.show())),
        }
    }
}

/// The stats of a service that a VM exports.
#[derive(Debug)]
pub(super) struct Exported {
    prefix: Prefix,
    captures: bool,
    /// In the order in which the service's stats are visited.
    service: Vec<Twin>,
    /// In order of their names.
    instances: Vec<Instance>,
    /// How often this VM has exported; wraps around.
    round: u32,
    is_paused: bool,
}

#[derive(Debug)]
struct Instance {
    /// The name that the directory gave its stats.
    stat: String,
    copies: Vec<Twin>,
    /// When it was last there.
    round: u32,
}

impl Exported {
    #[inline(never)]
    pub(super) fn new(prefix: Prefix, captures: bool) -> Self {
        Self {
            prefix,
            captures,
            service: Vec::new(),
            instances: Vec::new(),
            round: 0,
            is_paused: true,
        }
    }

    /// Another VM exports from now on: what this one wrote may be there no longer.
    pub(super) fn pause(&mut self) {
        if !self.is_paused {
            self.is_paused = true;
            let instances = self
                .instances
                .iter_mut()
                .flat_map(|known| &mut known.copies);
            for twin in self.service.iter_mut().chain(instances) {
                twin.last = None;
            }
        }
    }

    #[inline(never)]
    pub(super) fn export(
        &mut self,
        stats: &ServiceStats,
        in_flight: u64,
        loads: &[(&Entry, Shown)],
    ) {
        let (prefix, copies) = (&self.prefix, &mut self.service);
        let mut at = 0;
        let mut visit = |name: &str, kind: Kind, value: u64| {
            if copies.len() <= at {
                copies.push(Twin::define(&prefix.of_service(name, kind), kind));
            }
            if let Some(copy) = copies.get_mut(at) {
                copy.set(value);
            }
            at += 1;
        };
        visit("in_flight", Kind::Gauge, in_flight);
        stats.visit(&mut visit);
        self.is_paused = false;
        self.round = self.round.wrapping_add(1);
        for (entry, shown) in loads {
            self.instance(entry, shown);
        }
        for gone in &mut self.instances {
            if gone.round != self.round
                && let Some(in_flight) = gone.copies.first_mut()
            {
                in_flight.set(0);
            }
        }
    }

    fn instance(&mut self, entry: &Entry, shown: &Shown) {
        let totals = shown.totals;
        let values = [
            ("in_flight", Kind::Gauge, shown.in_flight),
            ("calls", Kind::Counter, totals.calls),
            ("failures", Kind::Counter, totals.failures),
            ("updates", Kind::Counter, totals.updates),
            ("update_bytes", Kind::Counter, totals.update_bytes),
            ("updates_refused", Kind::Counter, totals.updates_refused),
            ("updates_dropped", Kind::Counter, totals.updates_dropped),
        ];
        let kept = if self.captures { values.len() } else { 4 };
        let stat = entry.stat.as_str();
        let place = self
            .instances
            .binary_search_by(|known| known.stat.as_str().cmp(stat));
        let at = place.unwrap_or_else(|at| {
            let id = entry.member.id.as_str();
            let define = |(what, kind, _): &(&str, Kind, u64)| {
                Twin::define(&self.prefix.of_instance(stat, id, what, *kind), *kind)
            };
            let copies = values.iter().take(kept).map(define).collect();
            let stat = stat.to_owned();
            let (copies, round) = (copies, 0);
            let known = Instance {
                stat,
                copies,
                round,
            };
            self.instances.insert(at, known);
            at
        });
        if let Some(known) = self.instances.get_mut(at) {
            known.round = self.round;
            for (copy, (_, _, value)) in known.copies.iter_mut().zip(values) {
                copy.set(value);
            }
        }
    }
}
