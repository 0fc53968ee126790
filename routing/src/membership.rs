//! An instance; instances before and after → what changed.

use std::num::{NonZeroU32, NonZeroU64};

use crate::names::Names;
use crate::ring::WEIGHT_UNIT;

/// An instance of a service, as discovery found it and health judged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name for people and reports; its address unless it has a name.
    pub id: String,
    /// Where requests go: `ip:port`, or Envoy's address of a host that has none.
    pub address: String,
    /// What Envoy hashes instead of the address, if it was told so: `hash_key` of its metadata, or
    /// the hostname, which may be empty.
    pub hash_key: Option<String>,
    /// Its weight, relative to the others.
    pub weight: NonZeroU32,
    /// How much of its weight counts so far.
    pub warmth: Warmth,
    /// Whether it may take requests.
    pub state: State,
    /// Whether Envoy leaves it out when it computes how much of a priority is healthy.
    pub excluded: bool,
    /// Its priority; 0 is used first.
    pub priority: u32,
    /// Its locality, if the policy uses the weights of localities.
    pub locality: Option<Locality>,
    /// Whether a request header can name it. It cannot name a Unix socket or an address with a
    /// scope.
    pub steerable: bool,
}

/// The locality of an instance, as the policy weighs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locality {
    /// Its index among all localities, in Envoy's order.
    pub index: u32,
    /// Its weight; with 0 it gets no requests.
    pub weight: u32,
    /// The sum of the weights of all localities of its priority.
    pub all: u64,
}

/// Whether an instance may take requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// It may take requests.
    #[default]
    Serving,
    /// It may take requests while the serving instances do not suffice.
    Degraded,
    /// It must not take requests until it recovers, unless its priority panics.
    Failed(Cause),
    /// It is leaving: it finishes its requests, and must not take new ones.
    Draining,
}

/// Why an instance counts as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Envoy's active health check failed.
    ActiveCheck,
    /// Envoy's outlier detection ejected it.
    OutlierDetection,
    /// Envoy's source of endpoints reports it as unhealthy.
    Told,
    /// Gateway failures in a row, counted by the filter.
    GatewayFailures,
    /// Envoy does not say: a policy of the native module sees only that a host is unhealthy.
    Untold,
}

impl Cause {
    /// The text for events.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::ActiveCheck => "failed Envoy's active health check",
            Cause::OutlierDetection => "ejected by Envoy's outlier detection",
            Cause::Told => "reported unhealthy by Envoy's endpoint source",
            Cause::GatewayFailures => "gateway failures in a row",
            Cause::Untold => "unhealthy in Envoy",
        }
    }
}

/// How much of an instance's weight counts, in percent: less than 100 during a slow start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warmth(u8);

impl Warmth {
    /// The whole weight.
    pub const FULL: Warmth = Warmth(100);

    /// 1 to 100 percent; `None` for anything else.
    pub fn new(percent: u8) -> Option<Self> {
        (1..=100).contains(&percent).then_some(Self(percent))
    }

    /// The percentage, 1 to 100.
    pub fn percent(self) -> u8 {
        self.0
    }
}

/// The identity by which an instance is placed, and recognised from one look to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Identity {
    /// Its `ip:port`, or what Envoy was told to hash instead, as in Envoy.
    #[default]
    Address,
    /// Its id, so that it keeps its keys when it comes back at another address.
    Id,
}

impl Member {
    /// An instance of weight 1 that serves.
    pub fn new(id: &str, address: &str) -> Self {
        Self {
            id: id.to_owned(),
            address: address.to_owned(),
            hash_key: None,
            weight: NonZeroU32::MIN,
            warmth: Warmth::FULL,
            state: State::Serving,
            excluded: false,
            priority: 0,
            locality: None,
            steerable: true,
        }
    }

    /// The name that it is placed by.
    pub fn name(&self, identity: Identity) -> &str {
        match identity {
            Identity::Address => self.hash_key.as_ref().unwrap_or(&self.address),
            Identity::Id => &self.id,
        }
    }

    /// Whether its whole weight counts.
    pub fn is_warm(&self) -> bool {
        self.warmth == Warmth::FULL
    }

    /// The weight that counts now, in hundredths ([`WEIGHT_UNIT`]).
    pub fn effective_weight(&self) -> NonZeroU64 {
        const { assert!(WEIGHT_UNIT == 100, "a percent is a hundredth") };
        let weight = u64::from(self.weight.get()) * u64::from(self.warmth.percent());
        NonZeroU64::new(weight).unwrap_or(NonZeroU64::MIN)
    }
}

/// What happened to an instance between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The instance is new.
    Added,
    /// The instance is gone.
    Removed,
    /// The same instance, at another address.
    Moved,
    /// The instance stays, but must not take requests.
    Ejected(Cause),
    /// The instance stays, but takes no new requests.
    Draining,
    /// The instance stays, and takes requests only if the others do not suffice.
    Degraded,
    /// The instance takes requests again.
    Recovered,
    /// Its slow start is over.
    Warmed,
}

/// The changes from one look to the next, in order of name. Instances are recognised by `identity`:
/// by address, an instance that comes back at another address is a new one.
pub fn diff<'a>(
    before: &'a [Member],
    after: &'a [Member],
    identity: Identity,
) -> Vec<(&'a Member, Change)> {
    let mut changes = Vec::new();
    let mut old = by_name(before, identity).into_iter().peekable();
    for (name, member) in by_name(after, identity) {
        while let Some((_, gone)) = old.next_if(|(old, _)| *old < name) {
            changes.push((gone, Change::Removed));
        }
        match old.next_if(|(old, _)| *old == name) {
            None => changes.push((member, Change::Added)),
            Some((_, old)) => changes.extend(between(old, member).map(|change| (member, change))),
        }
    }
    changes.extend(old.map(|(_, gone)| (gone, Change::Removed)));
    changes
}

fn between(old: &Member, new: &Member) -> impl Iterator<Item = Change> {
    let moved = (old.address != new.address).then_some(Change::Moved);
    let judged = match (old.state, new.state) {
        (State::Serving | State::Degraded, State::Failed(cause)) => Some(Change::Ejected(cause)),
        (old, State::Draining) if old != State::Draining => Some(Change::Draining),
        (old, State::Degraded) if old != State::Degraded => Some(Change::Degraded),
        (old, State::Serving) if old != State::Serving => Some(Change::Recovered),
        _ => None,
    };
    let warmed = (old.warmth < Warmth::FULL && new.warmth == Warmth::FULL)
        .then_some(Change::Warmed)
        .filter(|_| new.state == State::Serving);
    [moved, judged, warmed].into_iter().flatten()
}

/// The name by which an instance is recognised from one look to the next. Not the name it is placed
/// by: several instances may have one hash key.
pub fn known_by(member: &Member, identity: Identity) -> &str {
    match identity {
        Identity::Address => &member.address,
        Identity::Id => &member.id,
    }
}

/// In order of name. Of two members with one name, the later counts.
fn by_name(members: &[Member], identity: Identity) -> Vec<(&str, &Member)> {
    let name = |member| known_by(member, identity);
    let names = Names::of(members.iter().map(name));
    let named = names.each();
    named
        .filter_map(|(name, at)| Some((name, members.get(at)?)))
        .collect()
}

#[cfg(test)]
mod tests;
