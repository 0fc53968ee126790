//! An instance; instances before and after → what changed.

use std::num::{NonZeroU32, NonZeroU64};

use crate::names::Names;
use crate::ring::WEIGHT_UNIT;

/// An instance of a service, as discovery found it and health judged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What people and reports call it; its address unless it was given a name.
    pub id: String,
    /// Where requests go: `ip:port`, or whatever Envoy calls a host that has none.
    pub address: String,
    /// What Envoy was told to hash instead of the address: `hash_key` of its metadata, or the
    /// hostname, which may be empty.
    pub hash_key: Option<String>,
    /// Its share of requests, relative to the others.
    pub weight: NonZeroU32,
    /// How much of that share it has so far.
    pub warmth: Warmth,
    /// Whether it may take requests.
    pub state: State,
    /// Whether Envoy leaves it out where it counts who is healthy.
    pub excluded: bool,
    /// 0 is used first.
    pub priority: u32,
    /// Its locality, where those have weights that count.
    pub locality: Option<Locality>,
    /// Whether a request header can name it: a Unix socket, or an address with a scope, it cannot.
    pub steerable: bool,
}

/// A locality of a priority, as the policy weighs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locality {
    /// Its place among all localities, in Envoy's order.
    pub index: u32,
    /// Its weight; 0 is no share.
    pub weight: u32,
    /// The weights of all localities of its priority.
    pub all: u64,
}

/// Whether an instance may take requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// It may.
    #[default]
    Serving,
    /// It may while those that serve do not suffice.
    Degraded,
    /// It must not until it is well again, unless its priority panics.
    Failed(Cause),
    /// It must not take new requests: it is leaving. What it has, it finishes.
    Draining,
}

/// Why an instance counts as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Envoy's active health check failed.
    ActiveCheck,
    /// Envoy's outlier detection ejected it.
    OutlierDetection,
    /// Whoever told Envoy of it says so, or Envoy is about to remove it.
    Told,
    /// Its own answers: gateway failures in a row.
    GatewayFailures,
}

impl Cause {
    /// As people read it in an event.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::ActiveCheck => "failed Envoy's active health check",
            Cause::OutlierDetection => "ejected by Envoy's outlier detection",
            Cause::Told => "unhealthy as Envoy was told",
            Cause::GatewayFailures => "gateway failures in a row",
        }
    }
}

/// How much of its weight counts, in percent: less than 100 during a slow start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warmth(u8);

impl Warmth {
    /// All of its weight.
    pub const FULL: Warmth = Warmth(100);

    /// 1 to 100 percent; `None` for anything else.
    pub fn new(percent: u8) -> Option<Self> {
        (1..=100).contains(&percent).then_some(Self(percent))
    }

    /// 1 to 100.
    pub fn percent(self) -> u8 {
        self.0
    }
}

/// What an instance is placed by, and known by from one look to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Identity {
    /// Its `ip:port`, or what Envoy was told to hash instead, as Envoy does.
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

    /// What it is placed by.
    pub fn name(&self, identity: Identity) -> &str {
        match identity {
            Identity::Address => self.hash_key.as_ref().unwrap_or(&self.address),
            Identity::Id => &self.id,
        }
    }

    /// Whether all of its weight counts.
    pub fn is_warm(&self) -> bool {
        self.warmth == Warmth::FULL
    }

    /// Its weight as it counts now, in hundredths.
    pub fn effective_weight(&self) -> NonZeroU64 {
        const { assert!(WEIGHT_UNIT == 100, "a percent is a hundredth") };
        let weight = u64::from(self.weight.get()) * u64::from(self.warmth.percent());
        NonZeroU64::new(weight).unwrap_or(NonZeroU64::MIN)
    }
}

/// What happened to one instance between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// The same instance, at another address.
    Moved,
    /// It stays, but must not take requests.
    Ejected(Cause),
    /// It stays, but takes no new requests.
    Draining,
    /// It stays, and takes requests only where the others do not suffice.
    Degraded,
    /// It takes requests again.
    Recovered,
    /// Its slow start is over.
    Warmed,
}

/// The changes from one look to the next, in order of name. Instances are told apart by `identity`: by
/// address, one that comes back at another address is another one.
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

/// What it is known by from one look to the next. Not what it is placed by: several may have one hash
/// key.
pub fn known_by(member: &Member, identity: Identity) -> &str {
    match identity {
        Identity::Address => &member.address,
        Identity::Id => &member.id,
    }
}

/// In order of name; of two with one name, the later.
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
