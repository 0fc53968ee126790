//! A report → the members and the rule that its filter's table was made from.
//!
//! Invariant: the fields that the filter reports (`balancer/src/reporter.rs`) keep their meaning, and
//! numbers that no filter sends never make a larger table.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use unitring_protocol::report::{self, InstanceLoad, RingHash, RingReport, RingShape};
use unitring_routing::hash::HashFunction;
use unitring_routing::health::HealthRule;
use unitring_routing::maglev::TABLE_SIZE_MAX;
use unitring_routing::membership::{Cause, Identity, Locality, Member, State, Warmth};
use unitring_routing::ring::Shape;
use unitring_routing::table::Rule;

/// All instances, including instances that take no requests.
pub(super) fn members(instances: &[InstanceLoad], ring: &RingReport) -> Vec<Member> {
    let mut members: Vec<Member> = instances.iter().filter_map(member).collect();
    weigh_localities(&mut members, instances, &ring.localities);
    members
}

/// How the filter places them; `None` if the ring would have no size.
pub(super) fn rule(ring: &RingReport) -> Option<Rule> {
    Some(Rule {
        shape: shape(ring.shape)?,
        identity: identity(ring.identity),
        health: ring.health.map(health).unwrap_or_default(),
    })
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
        // As in the filter: no header can name a socket's path, or an address with a scope.
        steerable: !load.address.contains('%') && load.address.parse::<SocketAddr>().is_ok(),
        ..Member::new(load.id.as_str(), &load.address)
    })
}

/// Gives each member its locality, if the report has weights of localities.
fn weigh_localities(members: &mut [Member], instances: &[InstanceLoad], weights: &[u32]) {
    let mut of_priority: BTreeMap<u32, BTreeMap<u32, u32>> = BTreeMap::new();
    // Instances of weight 0 are on no ring, and their localities are those of another filter.
    let placed = || instances.iter().filter(|load| load.weight > 0);
    for (priority, index) in placed().map(|load| (load.priority, load.locality)) {
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
    for (member, load) in members.iter_mut().zip(placed()) {
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
            table_size: NonZeroU32::new(table_size).filter(|size| size.get() <= TABLE_SIZE_MAX)?,
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
mod tests {
    use super::*;
    use crate::loads::samples;

    #[test]
    fn localities_of_instances_that_are_on_no_ring_do_not_count() {
        let instance = |(n, weight, locality)| InstanceLoad {
            weight,
            locality,
            ..samples::instance(&format!("10.0.0.1:{n}"))
        };
        let instances = [(1, 1, 0), (2, 1, 1), (3, 0, 2)].map(instance);
        let mut ring = samples::reported().ring;
        ring.localities = vec![30, 20, 10];
        let of = |member: &Member| member.locality.map(|it| (it.index, it.weight, it.all));
        let localities: Vec<_> = members(&instances, &ring).iter().map(of).collect();
        assert_eq!(localities, [Some((0, 30, 50)), Some((1, 20, 50))]);
    }
}
