//! Envoy stats: process-wide atomics, shared by all VMs.
//!
//! In-flight of an instance must be exact across workers and is counted at once. In-flight of the
//! service may lag by a few requests, and counters by more: a VM collects them and adds them on its
//! timer, so that a request makes no more calls into Envoy than it must.

mod kept;

use std::cell::{Cell, OnceCell};

use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

use super::quiet::Quiet;
use unitring_balancer::directory::{Shown, Totals};
use unitring_balancer::exported::Kind;
use unitring_balancer::roster::Side;
use unitring_balancer::wiring::Kind as Wiring;

/// A counter, and this VM's growth that it has yet to add.
#[derive(Debug)]
pub(super) struct Counter {
    id: Option<u32>,
    pending: Cell<u64>,
    /// Whether Envoy keeps it, which is known once this VM has added to it.
    is_kept: Cell<Option<bool>>,
}

impl Counter {
    fn define(name: &str) -> Self {
        Self {
            id: define(MetricType::Counter, name),
            pending: Cell::new(0),
            is_kept: Cell::new(None),
        }
    }

    pub(super) fn add(&self, count: u64) {
        self.pending.set(self.pending.get().saturating_add(count));
    }

    pub(super) fn flush(&self) {
        let pending = i64::try_from(self.pending.take()).unwrap_or(i64::MAX);
        if pending > 0 {
            increment(self.id, pending);
            // Later it may read 0 because an operator reset all counters.
            if self.is_kept.get() != Some(true) {
                self.is_kept.set(Some(self.show() > 0));
            }
        }
    }

    pub(super) fn show(&self) -> u64 {
        show(self.id)
    }
}

/// A gauge that every VM changes at once.
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

    /// For a gauge that only the VM with the lease changes, or that may be wrong for a moment.
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

/// Requests in flight: a gauge for each side of the roster, and this VM's part of them.
#[derive(Debug)]
pub(super) struct InFlight {
    home: Gauge,
    /// Defined on first use, since most processes never use it.
    away: OnceCell<Gauge>,
    away_name: String,
    mine: Cell<u64>,
}

/// The sides that have counts now.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sides {
    /// The side that VMs count on.
    pub(super) side: Side,
    /// Whether the other side has counts, too.
    pub(super) mixed: bool,
}

impl InFlight {
    fn define(name: &str) -> Self {
        Self {
            home: Gauge::define(name),
            away: OnceCell::new(),
            away_name: format!("{name}_away"),
            mine: Cell::new(0),
        }
    }

    fn on(&self, side: Side) -> &Gauge {
        match side {
            Side::Home => &self.home,
            Side::Away => self.away.get_or_init(|| Gauge::define(&self.away_name)),
        }
    }

    pub(super) fn raise(&self, sides: Sides) {
        self.change(1, sides);
    }

    pub(super) fn lower(&self, sides: Sides) {
        self.change(-1, sides);
    }

    fn change(&self, by: i64, sides: Sides) {
        self.mine.set(self.mine.get().saturating_add_signed(by));
        increment(self.on(sides.side).id, by);
    }

    /// In flight in the whole process.
    pub(super) fn show(&self, sides: Sides) -> u64 {
        let other = match sides.side {
            Side::Home => Side::Away,
            Side::Away => Side::Home,
        };
        // A gauge may be below zero for a moment if a VM was struck off by mistake; it then counts
        // as none.
        let shown =
            |side| Some(self.on(side).show()).filter(|shown| *shown <= i64::MAX.unsigned_abs());
        let rest = if sides.mixed { shown(other) } else { None };
        shown(sides.side)
            .unwrap_or(0)
            .saturating_add(rest.unwrap_or(0))
    }

    /// Moves this VM's part; `from` is `None` if that side was cleared already.
    pub(super) fn settle(&self, from: Option<Side>, to: Side) {
        let mine = i64::try_from(self.mine.get()).unwrap_or(i64::MAX);
        if mine > 0 {
            increment(self.on(to).id, mine);
            if let Some(from) = from {
                increment(self.on(from).id, -mine);
            }
        }
    }

    pub(super) fn clear(&self, side: Side) {
        self.on(side).set(0);
    }
}

/// Requests in flight of the service. The gauge may lack a few of each VM.
///
/// The total only decides how much an instance may carry above `min_capacity`. A few requests more
/// or less hardly change that: see `docs/bound.md`.
#[derive(Debug)]
pub(super) struct Total {
    in_flight: InFlight,
    /// The change that this VM has yet to add to the gauge; may be negative.
    pending: Cell<i64>,
    /// The greatest absolute value of `pending`.
    pending_max: i64,
}

impl Total {
    fn define(name: &str, pending_max: i64) -> Self {
        Self {
            in_flight: InFlight::define(name),
            pending: Cell::new(0),
            pending_max,
        }
    }

    pub(super) fn raise(&self, sides: Sides) {
        self.change(1, sides);
    }

    pub(super) fn lower(&self, sides: Sides) {
        self.change(-1, sides);
    }

    fn change(&self, by: i64, sides: Sides) {
        self.pending.set(self.pending.get().saturating_add(by));
        if self.pending.get().abs() > self.pending_max {
            self.flush(sides);
        }
    }

    pub(super) fn flush(&self, sides: Sides) {
        let pending = self.pending.take();
        if pending != 0 {
            self.in_flight.change(pending, sides);
        }
    }

    /// In flight in the whole process, with all of this VM's requests.
    pub(super) fn show(&self, sides: Sides) -> u64 {
        self.flush(sides);
        self.in_flight.show(sides)
    }

    /// As [`InFlight::settle`].
    pub(super) fn settle(&self, from: Option<Side>, to: Side) {
        self.in_flight.settle(from, to);
    }

    /// As [`InFlight::clear`].
    pub(super) fn clear(&self, side: Side) {
        self.in_flight.clear(side);
    }
}

/// A stat that is exported: another one's value, copied.
#[derive(Debug)]
pub(super) struct Stat(Option<u32>);

impl Stat {
    pub(super) fn define(kind: MetricType, name: &str) -> Self {
        Self(define(kind, name))
    }

    pub(super) fn set(&self, value: u64) {
        if let Some(id) = self.0
            && let Err(status) = hostcalls::record_metric(id, value)
        {
            log::error!("unitring: stat {id} could not be set: {status:?}");
        }
    }

    pub(super) fn add(&self, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        if count > 0 {
            increment(self.0, count);
        }
    }

    pub(super) fn show(&self) -> u64 {
        show(self.0)
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

#[derive(Debug)]
pub(super) struct InstanceStats {
    /// Attempts sent to it.
    pub(super) calls: Counter,
    /// Attempts that failed.
    pub(super) failures: Counter,
    /// Data updates that it announced.
    pub(super) updates: Counter,
    /// Further counters of updates; `None` unless they are captured, since Envoy never frees a stat.
    pub(super) captured: Option<Captured>,
    pub(super) in_flight: InFlight,
    /// Gateway failures since the last success.
    pub(super) failures_in_row: Gauge,
    /// Whether the row may be non-zero. Only then does a success cost a call into Envoy.
    pub(super) failing: Cell<bool>,
    /// In flight at some time in a round, and what this VM has begun and ended since.
    estimate: Cell<u64>,
    /// The round in which the estimate was read.
    round: Cell<u32>,
    /// Whether Envoy is known to keep `in_flight`.
    is_kept: Cell<bool>,
    /// Whether Envoy does not keep `failures_in_row`.
    row_lost: Cell<bool>,
}

/// The data updates of an instance, beside their number.
#[derive(Debug)]
pub(super) struct Captured {
    /// Bytes of their values.
    pub(super) bytes: Counter,
    /// Updates that were malformed, too large or not allowed.
    pub(super) refused: Counter,
    /// Updates that did not reach the companion in time.
    pub(super) dropped: Counter,
}

impl InstanceStats {
    /// `stat` is the name that the directory gave the instance; `captures` says whether its updates are captured.
    pub(super) fn define(service: &str, stat: &str, captures: bool) -> Self {
        let name = |what: &str| format!("unitring.{service}.{stat}.{what}");
        Self {
            calls: Counter::define(&name("calls")),
            failures: Counter::define(&name("failures")),
            updates: Counter::define(&name("updates")),
            captured: captures.then(|| Captured {
                bytes: Counter::define(&name("update_bytes")),
                refused: Counter::define(&name("updates_refused")),
                dropped: Counter::define(&name("updates_dropped")),
            }),
            in_flight: InFlight::define(&name("in_flight")),
            failures_in_row: Gauge::define(&name("failures_in_row")),
            failing: Cell::new(false),
            estimate: Cell::new(0),
            round: Cell::new(0),
            is_kept: Cell::new(false),
            row_lost: Cell::new(false),
        }
    }

    /// Counts a request as in flight here.
    pub(super) fn begin(&self, sides: Sides) {
        self.estimate.set(self.estimate.get().saturating_add(1));
        self.in_flight.raise(sides);
    }

    /// Counts a request as in flight here no longer.
    pub(super) fn end(&self, sides: Sides) {
        self.estimate.set(self.estimate.get().saturating_sub(1));
        self.in_flight.lower(sides);
    }

    /// In flight here, read from Envoy once a round: a read costs as much as a hundred reads of memory.
    pub(super) fn estimate(&self, round: u32, sides: Sides) -> u64 {
        if self.round.replace(round) != round {
            self.estimate.set(self.in_flight.show(sides));
        }
        self.estimate.get()
    }

    pub(super) fn flush(&self) {
        self.calls.flush();
        self.failures.flush();
        self.updates.flush();
        if let Some(captured) = &self.captured {
            captured.bytes.flush();
            captured.refused.flush();
            captured.dropped.flush();
        }
    }

    pub(super) fn shown(&self, sides: Sides) -> Shown {
        let captured = |counter: fn(&Captured) -> &Counter| {
            let captured = self.captured.as_ref();
            captured.map_or(0, |captured| counter(captured).show())
        };
        let totals = Totals {
            calls: self.calls.show(),
            failures: self.failures.show(),
            updates: self.updates.show(),
            update_bytes: captured(|captured| &captured.bytes),
            updates_refused: captured(|captured| &captured.refused),
            updates_dropped: captured(|captured| &captured.dropped),
        };
        Shown {
            totals,
            in_flight: self.in_flight.show(sides),
            update_load: 0,
        }
    }

    pub(super) fn succeeded(&self) {
        if self.failing.replace(false) {
            self.failures_in_row.set(0);
        }
    }

    pub(super) fn failed(&self) {
        self.failing.set(true);
        self.failures.add(1);
        self.failures_in_row.raise();
    }
}

macro_rules! service_counters {
    ($($(#[$doc:meta])* $field:ident = $name:literal,)*) => {
        /// The stats of the service as a whole.
        #[derive(Debug)]
        pub(super) struct ServiceStats {
            /// Requests in flight that the filter placed.
            pub(super) in_flight: Total,
            /// Instances that discovery found.
            pub(super) instances: Gauge,
            /// Instances that are on a ring.
            pub(super) instances_eligible: Gauge,
            /// 1 while a mistake of this kind is found in the wiring.
            pub(super) wiring: [Gauge; Wiring::ALL.len()],
            /// Always set to 1; reads 0 if Envoy excludes the filter's stats.
            pub(super) probe: Gauge,
            /// Whether Envoy is known to keep `in_flight`.
            is_kept: Cell<bool>,
            /// Warnings of malformed data updates.
            pub(super) malformed: Quiet,
            $($(#[$doc])* pub(super) $field: Counter,)*
        }

        impl ServiceStats {
            #[inline(never)]
            pub(super) fn define(service: &str, in_flight_lag: i64) -> Self {
                let name = |what: &str| format!("unitring.{service}.{what}");
                Self {
                    in_flight: Total::define(&name("in_flight"), in_flight_lag),
                    instances: Gauge::define(&name("instances")),
                    instances_eligible: Gauge::define(&name("instances_eligible")),
                    wiring: Wiring::ALL
                        .map(|kind| Gauge::define(&name(&format!("wiring.{}", kind.as_str())))),
                    probe: Gauge::define(&name("probe")),
                    is_kept: Cell::new(false),
                    malformed: Quiet::default(),
                    $($field: Counter::define(&name($name)),)*
                }
            }

            pub(super) fn flush(&self) {
                $(self.$field.flush();)*
            }

            /// The name of a stat that Envoy does not keep.
            #[inline(never)]
            pub(super) fn lost(&self, sides: Sides) -> Option<&'static str> {
                if self.probe.show() == 0 {
                    return Some("probe");
                }
                if !self.is_kept.get() {
                    if self.in_flight.is_lost(sides) {
                        return Some("in_flight");
                    }
                    self.is_kept.set(true);
                }
                let mut counters = [$(($name, &self.$field),)*].into_iter();
                let lost = counters.find(|(_, counter)| counter.is_lost());
                lost.map(|(name, _)| name)
            }

            /// Shows each stat to `visit`, but requests in flight, always in the same order.
            #[inline(never)]
            pub(super) fn visit(&self, visit: &mut dyn FnMut(&str, Kind, u64)) {
                visit("instances", Kind::Gauge, self.instances.show());
                visit("instances_eligible", Kind::Gauge, self.instances_eligible.show());
                for (kind, gauge) in Wiring::ALL.iter().zip(&self.wiring) {
                    visit(&format!("wiring.{}", kind.as_str()), Kind::Gauge, gauge.show());
                }
                $(visit($name, Kind::Counter, self.$field.show());)*
            }
        }
    };
}

service_counters! {
    /// Placed on another instance, since the owner was at its capacity.
    overflow = "overflow",
    /// Placed on the least loaded instance, since all were at their capacity.
    least_loaded = "least_loaded",
    /// Refused with 503, since all were at `load.max_in_flight`.
    full = "full",
    /// Attempts after the first, if the filter reads answers.
    retries = "retries",
    /// Attempts that failed.
    failures = "failures",
    /// Ejections of instances for their failures.
    ejections = "ejections",
    /// Left to Envoy's policy: the request has no hash key.
    fallback_no_key = "fallback.no_key",
    /// Left to Envoy's policy: no instances are known, or none may take requests.
    fallback_no_ring = "fallback.no_ring",
    /// Left to Envoy's policy: a header cannot name the instance that owns the key.
    fallback_unnameable = "fallback.unnameable",
    /// Left to Envoy's policy: several addresses share the name of the instance that owns the key.
    fallback_ambiguous = "fallback.ambiguous",
    /// Left to Envoy's policy, as is every request of the service.
    fallback_left = "fallback.left",
    /// Sampled requests: Envoy was asked where they ran.
    choice_sampled = "choice.sampled",
    /// Sampled requests that ran on an instance that the filter did not choose.
    choice_elsewhere = "choice.elsewhere",
    /// Headers that a client must not set and that the filter removed.
    forged_headers = "forged_headers",
    /// Looks at Envoy or the companion's registry that found members.
    discovery_done = "discovery.done",
    /// Looks that failed; the last members stay.
    discovery_failed = "discovery.failed",
    /// Reports that the companion took.
    report_sent = "report.sent",
    /// Reports that the companion did not take. They are not queued: the next report has the
    /// totals.
    report_failed = "report.failed",
    /// Events dropped because no companion took them in time.
    events_dropped = "events.dropped",
    /// Times that a snapshot of the fleet became too old to be used.
    fleet_stale = "fleet.stale",
    /// Data updates that the companion has, durably.
    updates_stored = "updates.stored",
    /// Data updates that were malformed, too large or not allowed.
    updates_refused = "updates.refused",
    /// Data updates that did not reach the companion in time.
    updates_dropped = "updates.dropped",
    /// Data updates whose body was too large, so that they were sent without a value or refused.
    updates_oversized = "updates.oversized",
    /// Answers of instances that the caller did not get, since their data updates were not stored.
    answers_replaced = "answers_replaced",
    /// Answers with data updates that no instance of the service made.
    updates_foreign = "updates.foreign",
    /// Answers whose body Envoy did not show, so that they were refused.
    updates_unread = "updates.unread",
}

/// The outcome of data updates, for the service and the instance that announced them.
impl ServiceStats {
    pub(super) fn refuse_updates(&self, instance: Option<&InstanceStats>, count: u64) {
        self.updates_refused.add(count);
        if let Some(captured) = instance.and_then(|stats| stats.captured.as_ref()) {
            captured.refused.add(count);
        }
    }

    pub(super) fn drop_updates(&self, instance: Option<&InstanceStats>, count: u64) {
        self.updates_dropped.add(count);
        if let Some(captured) = instance.and_then(|stats| stats.captured.as_ref()) {
            captured.dropped.add(count);
        }
    }
}

impl ServiceStats {
    /// Requests left to Envoy's policy since the process started.
    pub(super) fn fallbacks(&self) -> u64 {
        let all = [
            &self.fallback_no_key,
            &self.fallback_no_ring,
            &self.fallback_unnameable,
            &self.fallback_ambiguous,
            &self.fallback_left,
        ];
        all.iter()
            .fold(0, |sum, counter| sum.saturating_add(counter.show()))
    }
}
