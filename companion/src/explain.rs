//! A report and the present loads → where a key goes and why, by the filter's own code; and the
//! share of all keys that would move if an instance came or went.
//!
//! Values in, values out: no request is counted in flight.

mod rebuild;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};

use serde::Serialize;
use unitring_protocol::ids::InstanceId;
use unitring_protocol::report::{self, BoundReport, LoadScope};
use unitring_routing::bounded::{Bound, Loads};
use unitring_routing::hash::xxh64;
use unitring_routing::membership::Member;
use unitring_routing::ring::{HostIndex, RingError};
use unitring_routing::table::{Left, Table};

use crate::loads::{self, Reported, StoredLoad};

/// Candidates in an answer.
const CANDIDATES: usize = 3;
/// The filter's reason for a request that it leaves to Envoy's own policy.
const FALLBACK: &str = "fallback";

/// The question about a key.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The value that the filter would hash.
    pub key: String,
    /// A bound to use instead of the reported one.
    pub bound: Option<BoundReport>,
    /// An instance to leave out.
    pub without: Option<InstanceId>,
    /// An instance to add.
    pub with: Option<Newcomer>,
}

/// An instance that does not exist yet.
#[derive(Debug, Clone)]
pub struct Newcomer {
    pub id: InstanceId,
    pub address: SocketAddr,
    pub weight: NonZeroU32,
}

/// Where a key goes, and why.
#[derive(Debug, Serialize)]
pub struct Answer {
    key: String,
    /// `xxh64` of the key, 16 hex digits.
    hash: String,
    /// Absent if the filter knows of no owner.
    owner: Option<Candidate>,
    /// Empty if the key is left to Envoy's own policy.
    candidates: Vec<Candidate>,
    reason: &'static str,
    /// Why the key is left to Envoy's own policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<&'static str>,
    ring: report::RingReport,
    /// Whether this ring equals the filter's. A report lacks what the rings of unusual clusters
    /// depend on: weights of localities without hosts, names that are not ids.
    as_reported: bool,
    bound: BoundReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<Change>,
}

#[derive(Debug, Serialize)]
struct Candidate {
    id: String,
    address: String,
    weight: u32,
    /// Present if the service has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    in_flight: u64,
    /// Requests in flight that its updates count as for the bound, beside `in_flight`.
    #[serde(skip_serializing_if = "Option::is_none")]
    update_load: Option<u64>,
    /// Its capacity now; absent without a bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u64>,
}

/// The effect of the question's `with` or `without`.
#[derive(Debug, Serialize)]
struct Change {
    /// The share of all keys that would get another owner, 0 to 1.
    moved: f64,
    /// The new owner of this key.
    owner: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The instance to leave out is not reported.
    #[error("instance {0} is not reported")]
    Unknown(InstanceId),
    /// The instance to add is there already.
    #[error("instance {0} is there already")]
    Known(InstanceId),
    /// The report has no shape of a ring, or is the load that another unit told.
    #[error("the report has no valid ring size")]
    NoShape,
    /// The ring would be too large.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// Explains where a key goes, from the report `by` and all reports that count.
///
/// # Errors [`ExplainError`].
pub fn explain(
    question: &Question,
    by: &StoredLoad,
    all: &[StoredLoad],
) -> Result<Answer, ExplainError> {
    let reported = by.source.reported().ok_or(ExplainError::NoShape)?;
    let (members, table) = rebuilt(by, reported)?;
    let usual = question.bound.or(reported.bound).unwrap_or(OFF);
    let bound = bound(usual);
    let seen = seen(usual, by, all);
    let loads = Still::of(&table, seen);
    let (in_flight, update_load) = (loads::in_flight(seen), loads::update_load(seen));
    let hash = xxh64(question.key.as_bytes());
    let choice = match is_left_whole(&reported.ring, &table) {
        true => Err("the filter leaves all keys of this service to Envoy"),
        false => table
            .choose(hash, CANDIDATES, &bound, &loads)
            .map_err(why_left),
    };
    let has_priorities = members
        .iter()
        .any(|member| Some(member.priority) != members.first().map(|first| first.priority));
    let candidate = |host: HostIndex| {
        let member = table.host(host)?;
        let capacity = table.capacity(&bound, host, loads.total);
        let shown = |loads: &BTreeMap<&InstanceId, u64>| {
            let id: InstanceId = member.id.parse().ok()?;
            loads.get(&id).copied()
        };
        Some(Candidate {
            id: member.id.clone(),
            address: member.address.clone(),
            weight: member.weight.get(),
            priority: has_priorities.then_some(member.priority),
            in_flight: shown(&in_flight).unwrap_or(0),
            update_load: shown(&update_load).filter(|load| *load > 0),
            capacity: Some(capacity).filter(|capacity| *capacity != u64::MAX),
        })
    };
    let (candidates, reason, because) = match &choice {
        Ok(choice) => (choice.candidates.as_slice(), choice.reason.as_str(), None),
        Err(why) => (&[][..], FALLBACK, Some(*why)),
    };
    let owner = table
        .owner(hash)
        .filter(|_| !is_left_whole(&reported.ring, &table));
    Ok(Answer {
        key: question.key.clone(),
        hash: format!("{hash:016x}"),
        owner: owner.and_then(candidate),
        candidates: candidates
            .iter()
            .filter_map(|host| candidate(*host))
            .collect(),
        reason,
        because,
        as_reported: table.version() == reported.ring.version,
        ring: report::RingReport {
            version: table.version(),
            points: u64::try_from(table.points()).unwrap_or(u64::MAX),
            ..reported.ring.clone()
        },
        bound: usual,
        change: change(question, &members, &table, hash)?,
    })
}

/// Keys with which shares are measured.
const SAMPLES: u32 = 1 << 16;

/// An instance's share of the keys, and its capacity.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Part {
    /// The share of all keys that it owns, from 0 to 1, measured with 65,536 keys.
    pub share: f64,
    /// Its capacity now; `None` without a bound.
    pub capacity: Option<u64>,
}

/// The share and capacity of each instance, from the report `by` and all reports that count. Takes
/// some ms with a thousand instances.
///
/// # Errors
/// [`ExplainError`].
pub(crate) fn parts(
    by: &StoredLoad,
    all: &[StoredLoad],
) -> Result<BTreeMap<InstanceId, Part>, ExplainError> {
    let reported = by.source.reported().ok_or(ExplainError::NoShape)?;
    let (_, table) = rebuilt(by, reported)?;
    if is_left_whole(&reported.ring, &table) {
        return Ok(BTreeMap::new());
    }
    let usual = reported.bound.unwrap_or(OFF);
    let bound = bound(usual);
    let loads = Still::of(&table, seen(usual, by, all));
    let mut owned = vec![0u32; table.hosts().len()];
    for sample in 0..SAMPLES {
        let owner = table.owner(xxh64(&sample.to_le_bytes()));
        if let Some(owned) = owner.and_then(|host| owned.get_mut(host.get())) {
            *owned += 1;
        }
    }
    let mut parts: BTreeMap<InstanceId, Part> = BTreeMap::new();
    for (index, (host, owned)) in table.hosts().iter().zip(owned).enumerate() {
        let Ok(id) = host.id.parse::<InstanceId>() else {
            continue;
        };
        let capacity = table.capacity(&bound, HostIndex::of_place(index), loads.total);
        // An address that the cluster lists twice gets both shares.
        let part = parts.entry(id).or_default();
        part.share += f64::from(owned) / f64::from(SAMPLES);
        part.capacity = Some(capacity).filter(|capacity| *capacity != u64::MAX);
    }
    Ok(parts)
}

/// The members and the table of a report.
fn rebuilt(by: &StoredLoad, reported: &Reported) -> Result<(Vec<Member>, Table), ExplainError> {
    let members = rebuild::members(&by.instances, &reported.ring);
    let rule = rebuild::rule(&reported.ring).ok_or(ExplainError::NoShape)?;
    let table = Table::build(&members, rule)?;
    Ok((members, table))
}

/// The reports whose load the bound counts.
fn seen<'a>(bound: BoundReport, by: &'a StoredLoad, all: &'a [StoredLoad]) -> &'a [StoredLoad] {
    match bound.scope {
        LoadScope::Process => std::slice::from_ref(by),
        LoadScope::Fleet => all,
    }
}

/// Whether the filter has no ring although the report makes one: it does not know enough of the
/// cluster.
fn is_left_whole(ring: &report::RingReport, table: &Table) -> bool {
    ring.points == 0 && table.points() > 0
}

fn why_left(left: Left) -> &'static str {
    match left {
        Left::NoRing => "no instance takes requests, as far as the filter knows",
        Left::Unnameable => "a request header cannot name the owner",
        Left::Ambiguous => "several addresses have the owner's name",
    }
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

/// The loads at one moment. Nothing is taken, so "in flight with this request" is one more.
struct Still {
    by_host: Vec<u64>,
    total: u64,
}

impl Still {
    fn of(table: &Table, seen: &[StoredLoad]) -> Self {
        let loads = loads::carried(seen);
        let of = |id: &str| {
            let id: InstanceId = id.parse().ok()?;
            loads.get(&id).copied()
        };
        let by_host: Vec<u64> = table
            .hosts()
            .iter()
            .map(|host| of(&host.id).unwrap_or(0))
            .collect();
        // An address that the cluster lists twice is two hosts and one instance.
        let ids: BTreeSet<&str> = table.hosts().iter().map(|host| host.id.as_str()).collect();
        let each = ids.into_iter().filter_map(of);
        let total = each.fold(0u64, u64::saturating_add);
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

/// The bound of a filter that reports none.
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

#[cfg(test)]
mod tests;
