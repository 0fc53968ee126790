//! Reports → the load of the fleet. Pure: values in, values out; stores call [`advance`] inside
//! their atomic step.
//!
//! | module | what |
//! |---|---|
//! | `load_report` | what a filter or another unit tells of a service's load |
//! | `source` | which of the two it was |
//! | `plausible` | what of it can be true |
//! | `totals`, `rate` | the growth of counters, and updates per second |
//! | `wiring` | how a filter is wired wrongly |
//! | `picture` | the sums over all reporters |
//! | `shared` | what a unit tells the others |

mod load_report;
pub(crate) mod picture;
pub(crate) mod plausible;
pub(crate) mod rate;
#[cfg(any(test, feature = "contract-tests"))]
pub(crate) mod samples;
pub(crate) mod shared;
mod source;
mod totals;
pub(crate) mod wiring;

pub use load_report::LoadReport;
pub(crate) use source::{LoadSource, Reported};
pub(crate) use totals::Totals;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::ids::{InstanceId, ReporterId, ServiceName, UnitId};
use unitring_protocol::report::{Finding, InstanceLoad, Report};
use unitring_protocol::snapshot::{InstanceRest, ServiceSnapshot};

use self::rate::UpdateRate;
use crate::events::Event;

/// A reporter that misses this many reports is no longer counted.
const INTERVALS_MISSED_MAX: u64 = 5;
/// It is counted at least this long.
const ALIVE_MS_MIN: u64 = 5_000;
/// And at most this long.
const ALIVE_MS_MAX: u64 = 600_000;
/// Its counters and event number are remembered longer, for the case that it comes back.
pub(crate) const REMEMBERED_MS: u64 = 600_000;
/// How far a sequence may be ahead of our clock, since filters begin them with theirs. One that is further ahead
/// is invented, and makes no later report old.
const AHEAD_MS: u64 = 24 * 3_600_000;
/// Services in a report.
pub(crate) const SERVICES_MAX: usize = 256;
/// Instances of a service in a report.
pub(crate) const INSTANCES_MAX: usize = 16_384;
/// Events of a service that are taken of a report: as many as wait in a filter. It reports the others again, since they
/// are not confirmed.
pub(crate) const EVENTS_TAKEN_MAX: usize = 1_024;

/// The last report of a reporter on a service, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredLoad {
    pub reporter: ReporterId,
    pub sequence: u64,
    /// When it was taken, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub taken_ms: u64,
    /// Until when it counts, in milliseconds since the Unix epoch.
    pub alive_until_ms: u64,
    /// Until when it is remembered.
    pub remembered_until_ms: u64,
    /// The highest event number that is stored.
    pub events_through: u64,
    #[serde(flatten)]
    pub source: LoadSource,
    pub instances: Vec<InstanceLoad>,
    /// Data updates per second since the report before; instances without any are absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub update_rates: BTreeMap<InstanceId, UpdateRate>,
    /// Whose report it is; `None` if an older companion took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
}

impl StoredLoad {
    /// The interval of its reports, in ms, by its time to live.
    pub fn interval_ms(&self) -> u64 {
        self.alive_until_ms.saturating_sub(self.taken_ms) / INTERVALS_MISSED_MAX
    }

    /// The findings of the filter in its wiring.
    pub fn wiring(&self) -> &[Finding] {
        self.source.wiring()
    }

    /// Whether it still counts.
    pub fn is_alive(&self, now_ms: u64) -> bool {
        now_ms < self.alive_until_ms
    }
}

/// Whose report it is: a credential, an address, or another unit. While it is alive, no other owner replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner(String);

impl Owner {
    /// A client, by its credential or its address.
    pub fn client(principal: &impl fmt::Display) -> Self {
        Self(principal.to_string())
    }

    /// Another unit, which passes on the reports of its reporters.
    pub fn unit(unit: &UnitId) -> Self {
        Self(format!("unit {unit}"))
    }

    fn is_stranger(&self) -> bool {
        self.0.starts_with("address ")
    }
}

/// A reporter without a report for this long makes room for a new one.
const QUIET_MS: u64 = 10_000;
/// A reporter without a credential makes room this much sooner.
const STRANGER_MS: u64 = 600_000;

/// The reporter with the lowest standing makes room first.
pub(crate) fn standing(owner: &Owner, taken_ms: u64) -> u64 {
    match owner.is_stranger() {
        true => taken_ms.saturating_sub(STRANGER_MS),
        false => taken_ms,
    }
}

/// Reporters with a lower standing make room for a new reporter.
pub(crate) fn makes_room_below(owner: &Owner, now_ms: u64) -> u64 {
    standing(owner, now_ms.saturating_sub(QUIET_MS))
}

/// Why a report is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// A newer filter.
    #[error("version {0}: newer than {PROTOCOL_VERSION}, which this companion speaks: update it")]
    Newer(u32),
    /// Too large.
    #[error("{what}: at most {max} in a report")]
    TooMany {
        /// The part that is too large.
        what: &'static str,
        max: usize,
    },
}

/// Checks a report before anything of it is taken.
///
/// # Errors
/// [`ReportError`].
pub fn check(report: &Report) -> Result<(), ReportError> {
    if report.version > PROTOCOL_VERSION {
        return Err(ReportError::Newer(report.version));
    }
    let bounds = [
        ("services", report.services.len(), SERVICES_MAX),
        (
            "instances of a service",
            report
                .services
                .iter()
                .map(|part| part.instances.len())
                .max()
                .unwrap_or(0),
            INSTANCES_MAX,
        ),
    ];
    match bounds.iter().find(|(_, count, max)| count > max) {
        Some(&(what, _, max)) => Err(ReportError::TooMany { what, max }),
        None => Ok(()),
    }
}

/// The changes that a report makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Advance {
    /// The report to keep instead of the last one.
    pub next: StoredLoad,
    /// The growth to add to the totals; instances that did not grow are absent.
    pub growth: BTreeMap<InstanceId, Totals>,
    /// Events that are new, oldest first.
    pub events: Vec<Event>,
    /// How its wiring changed.
    pub wiring: wiring::Changed,
    /// The parts of the report that were cut.
    pub cut: Cut,
}

/// How much of a report was not kept as it was said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cut {
    /// Loads of instances that were lowered to what can be true.
    pub loads: u64,
    /// Findings that were left out or shortened.
    pub findings: u64,
}

/// How long a report counts, in ms, if the next is due after `interval_ms`.
pub(crate) fn alive_ms(interval_ms: u64) -> u64 {
    let ms = interval_ms.saturating_mul(INTERVALS_MISSED_MAX);
    ms.clamp(ALIVE_MS_MIN, ALIVE_MS_MAX)
}

/// Whether a report may replace the last one of its reporter: it is the owner's, or the owner is silent.
pub(crate) fn may_replace(last: Option<&StoredLoad>, owner: &Owner, now_ms: u64) -> bool {
    last.is_none_or(|last| {
        !last.is_alive(now_ms) || last.owner.as_ref().is_none_or(|last| last == owner)
    })
}

/// The step from a reporter's last report to this one; `None` if this one is not newer.
pub fn advance(last: Option<&StoredLoad>, report: &LoadReport, now_ms: u64) -> Option<Advance> {
    let is_ahead = |last: &StoredLoad, ms| last.sequence > now_ms.saturating_add(ms);
    // So neither an invented number nor a clock that was ahead for a while silences a reporter.
    let may_go_back = |last: &StoredLoad| {
        is_ahead(last, AHEAD_MS) || (is_ahead(last, QUIET_MS) && !last.is_alive(now_ms))
    };
    if last.is_some_and(|last| report.sequence <= last.sequence && !may_go_back(last)) {
        return None;
    }
    let mut through = last.map_or(0, |last| last.events_through);
    let mut events = Vec::new();
    for event in &report.events {
        if event.number > through && events.len() < EVENTS_TAKEN_MAX {
            through = event.number;
            events.push(Event::reported(&report.service, &report.reporter, event));
        }
    }
    let alive_until_ms = now_ms.saturating_add(alive_ms(report.interval_ms));
    let (source, findings) = report.source.kept();
    let wiring = wiring::changed(last.map_or(&[], StoredLoad::wiring), source.wiring());
    let (instances, loads) = plausible::kept(&report.instances);
    let growth = totals::growth(last, &instances);
    // A report that was held up is followed closely by the next, which is no burst of updates.
    let since_last_ms = last.map_or(0, |last| now_ms.saturating_sub(last.taken_ms));
    let update_rates = rate::of_reporter(last, &growth, since_last_ms.max(report.interval_ms));
    let next = StoredLoad {
        reporter: report.reporter.clone(),
        sequence: report.sequence,
        taken_ms: now_ms,
        alive_until_ms,
        remembered_until_ms: alive_until_ms.saturating_add(REMEMBERED_MS),
        events_through: through,
        source,
        instances,
        update_rates,
        owner: Some(report.owner.clone()),
    };
    Some(Advance {
        next,
        growth,
        events,
        wiring,
        cut: Cut { loads, findings },
    })
}

/// The load of the rest of the fleet, without one reporter (or of the whole fleet), and that reporter's
/// place among the others.
pub fn rest(
    service: &ServiceName,
    loads: &[StoredLoad],
    without: Option<&ReporterId>,
) -> ServiceSnapshot {
    let others = || loads.iter().filter(|load| Some(&load.reporter) != without);
    let before = || others().filter(|load| without.is_some_and(|me| load.reporter < *me));
    let own = carried(loads.iter().filter(|load| Some(&load.reporter) == without));
    let (all, earlier) = (carried(others()), carried(before()));
    let of = |loads: &BTreeMap<&InstanceId, u64>, id| loads.get(id).copied().unwrap_or(0);
    let rates = rate::of_instances(loads);
    let ids = all.keys().chain(own.keys()).chain(rates.keys()).copied();
    let ids: BTreeSet<&InstanceId> = ids.collect();
    let rest = ids.into_iter().map(|id| InstanceRest {
        id: id.clone(),
        in_flight: of(&all, id),
        before: of(&earlier, id),
        own: of(&own, id),
        updates_per_1000_s: rates.get(id).map_or(0, |rate| rate.per_1000_seconds()),
    });
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    ServiceSnapshot {
        service: service.clone(),
        reporters: count(others().count()),
        rank: without.map(|_| count(before().count())),
        rest: rest
            .filter(|rest| rest.in_flight > 0 || rest.own > 0 || rest.updates_per_1000_s > 0)
            .collect(),
    }
}

/// The load of each instance over these reports, as bounds count it: requests in flight, and the load of updates.
pub(crate) fn carried<'a>(
    loads: impl IntoIterator<Item = &'a StoredLoad>,
) -> BTreeMap<&'a InstanceId, u64> {
    summed(loads, InstanceLoad::load)
}

/// The requests in flight on each instance over these reports.
pub fn in_flight<'a>(
    loads: impl IntoIterator<Item = &'a StoredLoad>,
) -> BTreeMap<&'a InstanceId, u64> {
    summed(loads, |load| load.in_flight)
}

/// The requests in flight that the updates of each instance count as, over these reports.
pub(crate) fn update_load<'a>(
    loads: impl IntoIterator<Item = &'a StoredLoad>,
) -> BTreeMap<&'a InstanceId, u64> {
    summed(loads, |load| load.update_load)
}

fn summed<'a>(
    loads: impl IntoIterator<Item = &'a StoredLoad>,
    count: fn(&InstanceLoad) -> u64,
) -> BTreeMap<&'a InstanceId, u64> {
    let mut sums: BTreeMap<&InstanceId, u64> = BTreeMap::new();
    for instance in loads.into_iter().flat_map(|load| &load.instances) {
        let sum = sums.entry(&instance.id).or_default();
        *sum = sum.saturating_add(count(instance));
    }
    sums
}

/// Every instance that a report names.
pub fn instances(loads: &[StoredLoad]) -> BTreeSet<InstanceId> {
    loads
        .iter()
        .flat_map(|load| &load.instances)
        .map(|instance| instance.id.clone())
        .collect()
}

/// The report that was taken last of a filter of this unit: its ring is the one to explain by.
pub fn latest(loads: &[StoredLoad]) -> Option<&StoredLoad> {
    let own = loads.iter().filter(|load| load.source.reported().is_some());
    own.max_by_key(|load| load.taken_ms)
}

#[cfg(test)]
mod tests;
