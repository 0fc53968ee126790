//! Loads and events → a report; the companion's answer → the fleet.
//!
//! Each report repeats its events until the companion confirms them. The queue is bounded: when it
//! is full, the oldest events are dropped and counted, so a long absence of the companion costs
//! nothing but events.

mod answer;
mod rules;
mod warming;

use std::collections::VecDeque;

use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::ids::{InstanceId, InvalidName, ReporterId};
use unitring_protocol::report::{
    EventKind, Finding, InstanceEvent, InstanceLoad, Report, RingReport, ServiceReport,
};
use unitring_routing::membership::{Change, Member, State};
use unitring_routing::names::{Names, may_repeat};
use unitring_routing::table::Table;

use crate::directory::{Entry, Shown};
use crate::settings::Settings;
pub use answer::{AnswerError, read_answer};
pub use warming::Warming;

/// The host name by which both shells address a companion, independent of its cluster's name: a companion answers to
/// few names, so that no page of another site reaches it through a browser.
pub const AUTHORITY: &str = "unitring";

/// The most events that wait for a companion.
pub const EVENTS_MAX: usize = 1_024;

/// Makes the reports of one process.
#[derive(Debug)]
pub struct Reporter {
    id: ReporterId,
    events: VecDeque<InstanceEvent>,
    last_number: u64,
    last_sequence: u64,
    dropped: u64,
}

/// An event of an instance, before it has an event number.
#[derive(Debug, Clone, PartialEq)]
pub struct Happening {
    /// The kind of event.
    pub kind: EventKind,
    /// The id of the instance.
    pub instance: String,
    /// The reason, for people.
    pub reason: &'static str,
    /// The ring's version after the event.
    pub ring: String,
    /// The share of keys that moved, 0 to 1.
    pub moved: f64,
}

impl Happening {
    /// An event for a change that discovery or health found.
    pub fn change(member: &Member, change: Change, new: &Table, moved: f64) -> Self {
        let (kind, reason) = match change {
            Change::Added if !member.is_warm() => (EventKind::Added, "discovered, warms up"),
            Change::Added => (EventKind::Added, "discovered"),
            Change::Removed => (EventKind::Removed, "no longer discovered"),
            Change::Moved => (EventKind::Added, "discovered at another address"),
            Change::Ejected(cause) => (EventKind::Ejected, cause.as_str()),
            Change::Draining => (EventKind::Ejected, "draining: takes no new keys"),
            Change::Degraded => (
                EventKind::Ejected,
                "degraded: used only while healthy instances do not suffice",
            ),
            Change::Recovered if !member.is_warm() => {
                (EventKind::Recovered, "takes keys again, warms up")
            }
            Change::Recovered => (EventKind::Recovered, "takes keys again"),
            Change::Warmed => (EventKind::Warmed, "slow start is over"),
        };
        Self {
            kind,
            instance: member.id.clone(),
            reason,
            ring: new.version(),
            moved,
        }
    }

    /// An event for a crossing of a threshold.
    pub fn crossing(of: Threshold, instance: &str, kind: EventKind, table: &Table) -> Self {
        Self {
            kind,
            instance: instance.to_owned(),
            reason: match of {
                Threshold::InFlight => "in-flight requests against load.threshold",
                Threshold::Updates => "data updates a second against load.update_threshold",
            },
            ring: table.version(),
            moved: 0.0,
        }
    }
}

/// The quantity that is compared with a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// Requests in flight.
    InFlight,
    /// Data updates a second.
    Updates,
}

impl Reporter {
    /// The reporter of this process, without events.
    pub fn new(id: ReporterId) -> Self {
        Self {
            id,
            events: VecDeque::new(),
            last_number: 0,
            last_sequence: 0,
            dropped: 0,
        }
    }

    /// Queues an event for the next report.
    pub fn note(&mut self, happening: Happening, now_ms: u64) -> Result<(), InvalidName> {
        let instance: InstanceId = happening.instance.parse()?;
        // Numbers follow the clock and do not start at 1: a VM that takes over the lease goes on
        // above its predecessor.
        self.last_number = now_ms.max(self.last_number.saturating_add(1));
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
            self.dropped += 1;
        }
        self.events.push_back(InstanceEvent {
            number: self.last_number,
            at_ms: now_ms,
            kind: happening.kind,
            instance,
            reason: happening.reason.to_owned(),
            ring: happening.ring,
            moved: happening.moved,
        });
        Ok(())
    }

    /// Removes the events up to this number, which the companion has.
    pub fn confirm(&mut self, events_through: u64) {
        self.events.retain(|event| event.number > events_through);
    }

    /// Events dropped since the last call because no companion took them.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Builds the report of this moment.
    pub fn report<'a>(
        &mut self,
        settings: &Settings,
        table: &Table,
        instances: impl Iterator<Item = (&'a Entry, Shown)>,
        fallbacks: u64,
        wiring: Vec<Finding>,
        now_ms: u64,
    ) -> Report {
        // A clock that was set back must not make reports look old.
        self.last_sequence = now_ms.max(self.last_sequence.saturating_add(1));
        let interval = settings
            .companion
            .as_ref()
            .map(|companion| companion.interval.as_millis());
        let instances = loads(instances);
        let rule = table.rule();
        let service = ServiceReport {
            service: settings.service.clone(),
            ring: RingReport {
                version: table.version(),
                points: u64::try_from(table.points()).unwrap_or(u64::MAX),
                shape: rules::shape(rule.shape),
                identity: rules::identity(rule.identity),
                health: Some(rules::health(rule.health)),
                localities: instances.localities,
            },
            bound: Some(rules::bound(&settings.load)),
            fallbacks,
            instances: instances.loads,
            events: self.events.iter().cloned().collect(),
            wiring,
        };
        Report {
            version: PROTOCOL_VERSION,
            reporter: self.id.clone(),
            sequence: self.last_sequence,
            interval_ms: interval.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0),
            services: vec![service],
        }
    }
}

/// Adds the instances that only filters of this process with other settings know, with weight 0: no
/// table here contains them, and their load counts in the fleet.
pub fn add_others<'a>(report: &mut Report, others: impl Iterator<Item = (&'a Entry, Shown)>) {
    let others = others.filter_map(|(entry, shown)| load(entry, shown));
    if let Some(service) = report.services.first_mut() {
        service.instances.extend(others.map(|load| InstanceLoad {
            weight: 0,
            locality: 0,
            ..load
        }));
    }
}

/// The instances of a report.
struct Loads {
    loads: Vec<InstanceLoad>,
    /// The weights of localities, by their index; empty unless localities have weights.
    localities: Vec<u32>,
}

fn loads<'a>(instances: impl Iterator<Item = (&'a Entry, Shown)>) -> Loads {
    let (mut loads, mut localities): (Vec<InstanceLoad>, Vec<u32>) = (Vec::new(), Vec::new());
    let (entries, shown): (Vec<&Entry>, Vec<Shown>) = instances.unzip();
    let ids = || entries.iter().map(|entry| entry.member.id.as_str());
    let repeated = may_repeat(ids()).then(|| Names::of(ids()));
    for (at, (entry, shown)) in entries.iter().zip(shown).enumerate() {
        // An address that Envoy lists twice is one instance, whose load is reported once.
        let is_first = |ids: &Names<'_>| ids.first(&entry.member.id) == Some(at);
        let is_first = repeated.as_ref().is_none_or(is_first);
        let shown = if is_first { shown } else { Shown::default() };
        loads.extend(load(entry, shown));
        if let Some(locality) = entry.member.locality
            && let Ok(at) = usize::try_from(locality.index)
        {
            if localities.len() <= at {
                localities.resize(at + 1, 0);
            }
            if let Some(weight) = localities.get_mut(at) {
                *weight = locality.weight;
            }
        }
    }
    Loads { loads, localities }
}

fn load(entry: &Entry, shown: Shown) -> Option<InstanceLoad> {
    let member = &entry.member;
    let (totals, base) = (shown.totals, entry.base);
    Some(InstanceLoad {
        weight: member.weight.get(),
        healthy: matches!(member.state, State::Serving | State::Degraded),
        draining: member.state == State::Draining,
        degraded: member.state == State::Degraded,
        excluded: member.excluded,
        priority: member.priority,
        hash_key: member.hash_key.clone(),
        locality: member.locality.map_or(0, |locality| locality.index),
        failures: totals.failures.saturating_sub(base.failures),
        warmth: member.warmth.percent(),
        calls: totals.calls.saturating_sub(base.calls),
        in_flight: shown.in_flight,
        updates: totals.updates.saturating_sub(base.updates),
        update_bytes: totals.update_bytes.saturating_sub(base.update_bytes),
        updates_refused: totals.updates_refused.saturating_sub(base.updates_refused),
        updates_dropped: totals.updates_dropped.saturating_sub(base.updates_dropped),
        update_load: shown.update_load,
        ..InstanceLoad::new(member.id.parse().ok()?, member.address.clone())
    })
}

/// A line of the log: how many of all instances take requests by this table, and how many keys it moved.
pub fn placed_line(eligible: usize, all: usize, table: &Table, moved: f64) -> String {
    format!(
        "{eligible} of {all} instances take requests, {} virtual nodes, ring {}, {} of keys moved",
        table.points(),
        table.version(),
        percent(moved),
    )
}

/// A share for people: 0.125 is `12.5 %`.
fn percent(share: f64) -> String {
    // Not `{:.1}`: formatting any double to any precision costs ten kilobytes of library code.
    let tenths = per_mille(share);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a double stops at the ends, and a share is 0 to 1"
)]
fn per_mille(share: f64) -> u32 {
    (share * 1000.0).round() as u32
}

/// Names this process in its reports: Envoy's node id, so that people find it, and a number that no
/// other process with that id has.
pub fn reporter_id(node_id: &str, unique: u64) -> ReporterId {
    let visible = |c: char| c.is_ascii_graphic() && c != ',';
    let node: String = node_id.chars().filter(|c| visible(*c)).take(200).collect();
    let node = if node.is_empty() { "envoy" } else { &node };
    // Visible ASCII of a bounded length is always a valid reporter id; the fallback only avoids a
    // panic.
    format!("{node}~{unique:016x}")
        .parse()
        .unwrap_or_else(|_| reporter_id("envoy", unique))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn happening(instance: &str) -> Happening {
        Happening {
            kind: EventKind::Added,
            instance: instance.to_owned(),
            reason: "discovered",
            ring: String::new(),
            moved: 0.25,
        }
    }

    fn reporter() -> Reporter {
        Reporter::new(reporter_id("edge-1", 7))
    }

    #[test]
    fn events_are_sent_until_confirmed_and_numbers_only_grow() {
        let mut reporter = reporter();
        for (instance, now) in [("a:1", 100), ("b:1", 100), ("c:1", 50)] {
            reporter.note(happening(instance), now).unwrap();
        }
        let numbers: Vec<u64> = reporter.events.iter().map(|event| event.number).collect();
        assert_eq!(numbers, [100, 101, 102]);
        reporter.confirm(101);
        assert_eq!(reporter.events.len(), 1);
        reporter.confirm(102);
        assert!(reporter.events.is_empty());
    }

    #[test]
    fn without_a_companion_the_oldest_events_go_and_are_counted() {
        let mut reporter = reporter();
        for now in 1..=2_000 {
            reporter.note(happening("a:1"), now).unwrap();
        }
        assert_eq!(reporter.events.len(), EVENTS_MAX);
        assert_eq!(reporter.take_dropped(), 2_000 - EVENTS_MAX as u64);
        assert_eq!(reporter.take_dropped(), 0);
        assert_eq!(reporter.events.back().unwrap().number, 2_000);
    }

    #[test]
    fn a_share_is_told_in_percent_with_one_decimal() {
        let told = [0.0, 0.0004, 0.0005, 0.125, 0.9996, 1.0].map(percent);
        assert_eq!(
            told,
            ["0.0 %", "0.0 %", "0.1 %", "12.5 %", "100.0 %", "100.0 %"]
        );
    }

    proptest! {
        #[test]
        fn any_node_id_makes_a_reporter_id(node: String, unique: u64) {
            let suffix = format!("~{unique:016x}");
            prop_assert!(reporter_id(&node, unique).as_str().ends_with(&suffix));
        }
    }
}
