//! A report and the loads of now → where a key goes and why, by the code that the filter decides
//! with; and what share of all keys would move if an instance came or went.
//!
//! Values in, values out: nothing is taken or counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};

use serde::Serialize;
use unitring_protocol::ids::InstanceId;
use unitring_protocol::report::{self, BoundReport, InstanceLoad, LoadScope, RingHash, RingShape};
use unitring_routing::bounded::{Bound, Loads};
use unitring_routing::hash::{HashFunction, xxh64};
use unitring_routing::health::HealthRule;
use unitring_routing::membership::{Cause, Identity, Locality, Member, State, Warmth};
use unitring_routing::ring::{HostIndex, RingError, Shape};
use unitring_routing::table::{Left, Rule, Table};

use crate::loads::{self, StoredLoad};

/// Candidates that are shown.
const CANDIDATES: usize = 3;

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The value that the filter would hash.
    pub key: String,
    /// Instead of the bound of the report.
    pub bound: Option<BoundReport>,
    /// As if this one were gone.
    pub without: Option<InstanceId>,
    /// As if this one were there, too.
    pub with: Option<Newcomer>,
}

/// An instance that is not there yet.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// Its id.
    pub id: InstanceId,
    /// Where requests for it would go.
    pub address: SocketAddr,
    /// Its weight.
    pub weight: NonZeroU32,
}

/// Where a key goes, and why.
#[derive(Debug, Serialize)]
pub struct Answer {
    key: String,
    /// `xxh64` of the key, 16 hex digits.
    hash: String,
    owner: Candidate,
    candidates: Vec<Candidate>,
    reason: &'static str,
    ring: report::RingReport,
    bound: BoundReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<Change>,
}

#[derive(Debug, Serialize)]
struct Candidate {
    id: String,
    address: String,
    weight: u32,
    in_flight: u64,
    /// What it may have in flight now; absent if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u64>,
}

/// What the question's `with` or `without` would do.
#[derive(Debug, Serialize)]
struct Change {
    /// The share of all keys that would get another owner, 0 to 1.
    moved: f64,
    /// The owner of this key then.
    owner: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// Nobody takes requests.
    #[error("no instance takes requests")]
    Nobody,
    /// A header cannot name the owner.
    #[error("a header cannot name the instance of this key, so Envoy's own policy chooses")]
    Unnameable,
    /// Several addresses have the owner's name.
    #[error(
        "several addresses have the name of this key's instance, so Envoy's own policy chooses"
    )]
    Ambiguous,
    /// The instance that is to be gone is not there.
    #[error("instance {0} is not reported")]
    Unknown(InstanceId),
    /// The instance that is to come is there.
    #[error("instance {0} is there already")]
    Known(InstanceId),
    /// The report makes no sense.
    #[error("the reported ring has no size")]
    NoShape,
    /// The ring would be too large.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// Explains by `by`, the report to go by, among all the reports that count.
///
/// # Errors
/// [`ExplainError`].
pub fn explain(
    question: &Question,
    by: &StoredLoad,
    all: &[StoredLoad],
) -> Result<Answer, ExplainError> {
    let mut members: Vec<Member> = by.instances.iter().filter_map(member).collect();
    weigh_localities(&mut members, by);
    let rule = Rule {
        shape: shape(by.ring.shape).ok_or(ExplainError::NoShape)?,
        identity: identity(by.ring.identity),
        health: by.ring.health.map(health).unwrap_or_default(),
    };
    let table = Table::build(&members, rule)?;
    let reported = question.bound.or(by.bound).unwrap_or(OFF);
    let bound = bound(reported);
    let seen = match reported.scope {
        LoadScope::Process => std::slice::from_ref(by),
        LoadScope::Fleet => all,
    };
    let loads = Still::of(&table, seen);
    let hash = xxh64(question.key.as_bytes());
    let choice = table.choose(hash, CANDIDATES, &bound, &loads);
    let choice = choice.map_err(|left| match left {
        Left::NoRing => ExplainError::Nobody,
        Left::Unnameable => ExplainError::Unnameable,
        Left::Ambiguous => ExplainError::Ambiguous,
    })?;
    let candidate = |host: HostIndex| {
        let member = table.host(host)?;
        let capacity = table.capacity(&bound, host, loads.total);
        Some(Candidate {
            id: member.id.clone(),
            address: member.address.clone(),
            weight: member.weight.get(),
            in_flight: loads.at(host.get()),
            capacity: Some(capacity).filter(|capacity| *capacity != u64::MAX),
        })
    };
    let owner = table.owner(hash).and_then(candidate);
    let candidates = choice.candidates.as_slice().iter();
    Ok(Answer {
        key: question.key.clone(),
        hash: format!("{hash:016x}"),
        owner: owner.ok_or(ExplainError::Nobody)?,
        candidates: candidates.filter_map(|host| candidate(*host)).collect(),
        reason: choice.reason.as_str(),
        ring: report::RingReport {
            version: table.version(),
            points: u64::try_from(table.points()).unwrap_or(u64::MAX),
            ..by.ring.clone()
        },
        bound: reported,
        change: change(question, &members, &table, hash)?,
    })
}

fn change(
    question: &Question,
    members: &[Member],
    table: &Table,
    hash: u64,
) -> Result<Option<Change>, ExplainError> {
    if question.without.is_none() && question.with.is_none() {
        return Ok(None);
    }
    let mut then = members.to_vec();
    if let Some(gone) = &question.without {
        then.retain(|member| member.id != gone.as_str());
        if then.len() == members.len() {
            return Err(ExplainError::Unknown(gone.clone()));
        }
    }
    if let Some(newcomer) = &question.with {
        let address = newcomer.address.to_string();
        let same = |member: &Member| member.id == newcomer.id.as_str() || member.address == address;
        if then.iter().any(same) {
            return Err(ExplainError::Known(newcomer.id.clone()));
        }
        then.push(Member {
            weight: newcomer.weight,
            ..Member::new(newcomer.id.as_str(), &address)
        });
    }
    let then = table.update(&then)?;
    let owner = then.owner(hash).and_then(|host| then.host(host));
    Ok(Some(Change {
        moved: then.moved_from(table),
        owner: owner.map(|owner| owner.id.clone()),
    }))
}

/// The loads of a moment. Nothing is taken: in flight "with this request" is one more than there is.
struct Still {
    by_host: Vec<u64>,
    total: u64,
}

impl Still {
    fn of(table: &Table, seen: &[StoredLoad]) -> Self {
        let loads = loads::in_flight(seen);
        let of = |id: &str| {
            let id: InstanceId = id.parse().ok()?;
            loads.get(&id).copied()
        };
        let by_host: Vec<u64> = table
            .hosts()
            .iter()
            .map(|host| of(&host.id).unwrap_or(0))
            .collect();
        let total = by_host.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
        Self { by_host, total }
    }

    fn at(&self, host: usize) -> u64 {
        self.by_host.get(host).copied().unwrap_or(0)
    }
}

impl Loads for Still {
    fn take(&self, _: usize) {}
    fn give_back(&self, _: usize) {}
    fn in_flight(&self, host: usize) -> u64 {
        self.at(host).saturating_add(1)
    }
    fn estimate(&self, host: usize) -> u64 {
        self.at(host)
    }
    fn total(&self) -> u64 {
        self.total
    }
}

/// What a filter that does not tell its bound is taken to have.
const OFF: BoundReport = BoundReport {
    balance_factor: 0,
    min_capacity: 0,
    max_in_flight: 0,
    scope: LoadScope::Fleet,
};

fn bound(reported: BoundReport) -> Bound {
    Bound {
        balance_factor: NonZeroU32::new(reported.balance_factor),
        min_capacity: reported.min_capacity,
        max_in_flight: NonZeroU64::new(reported.max_in_flight),
    }
}

fn member(load: &InstanceLoad) -> Option<Member> {
    let state = match (load.draining, load.degraded, load.healthy) {
        (true, _, _) => State::Draining,
        (false, true, _) => State::Degraded,
        (false, false, true) => State::Serving,
        (false, false, false) => State::Failed(Cause::Told),
    };
    Some(Member {
        weight: NonZeroU32::new(load.weight)?,
        warmth: Warmth::new(load.warmth).unwrap_or(Warmth::FULL),
        state,
        excluded: load.excluded,
        priority: load.priority,
        hash_key: load.hash_key.clone(),
        steerable: load.address.parse::<SocketAddr>().is_ok(),
        ..Member::new(load.id.as_str(), &load.address)
    })
}

/// Gives each member its locality, where the report says that localities have weights.
fn weigh_localities(members: &mut [Member], by: &StoredLoad) {
    let weights = &by.ring.localities;
    let mut of_priority: BTreeMap<u32, BTreeMap<u32, u32>> = BTreeMap::new();
    let places = by
        .instances
        .iter()
        .map(|load| (load.priority, load.locality));
    for (priority, index) in places {
        let weight = usize::try_from(index).ok().and_then(|at| weights.get(at));
        if let Some(weight) = weight {
            of_priority
                .entry(priority)
                .or_default()
                .insert(index, *weight);
        }
    }
    let locality_of = |load: &InstanceLoad| {
        let weights = of_priority.get(&load.priority)?;
        Some(Locality {
            index: load.locality,
            weight: *weights.get(&load.locality)?,
            all: weights.values().copied().map(u64::from).sum(),
        })
    };
    let loads = by.instances.iter().filter(|load| load.weight > 0);
    for (member, load) in members.iter_mut().zip(loads) {
        member.locality = locality_of(load);
    }
}

fn health(reported: report::HealthReport) -> HealthRule {
    HealthRule {
        panic_threshold: reported.panic_threshold,
        overprovisioning_factor: reported.overprovisioning_factor,
        weighted: reported.weighted_priority_health,
    }
}

fn shape(shape: RingShape) -> Option<Shape> {
    let function = |hash| match hash {
        RingHash::XxHash => HashFunction::XxHash64,
        RingHash::MurmurHash2 => HashFunction::Murmur2,
    };
    Some(match shape {
        RingShape::Envoy {
            min_size,
            max_size,
            hash,
        } => Shape::Envoy {
            hash: function(hash),
            min_size,
            max_size,
        },
        RingShape::Fixed {
            virtual_nodes,
            max_size,
            hash,
        } => Shape::Fixed {
            hash: function(hash),
            virtual_nodes: NonZeroU32::new(virtual_nodes)?,
            max_size,
        },
        RingShape::Maglev { table_size } => Shape::Maglev {
            table_size: NonZeroU32::new(table_size)
                .filter(|size| size.get() <= unitring_routing::maglev::TABLE_SIZE_MAX)?,
        },
    })
}

fn identity(identity: report::Identity) -> Identity {
    match identity {
        report::Identity::Address => Identity::Address,
        report::Identity::Id => Identity::Id,
    }
}

#[cfg(test)]
mod tests;
