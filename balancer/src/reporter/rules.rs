//! Settings → their form in a report, so that the companion can decide as the filter does.

use unitring_protocol::report::{self, BoundReport, HealthReport, LoadScope, RingHash, RingShape};
use unitring_routing::hash::HashFunction;
use unitring_routing::health::HealthRule;
use unitring_routing::membership::Identity;
use unitring_routing::ring::Shape;

use crate::settings::{Load, Scope};

pub(super) fn shape(shape: Shape) -> RingShape {
    match shape {
        Shape::Envoy {
            hash,
            min_size,
            max_size,
        } => RingShape::Envoy {
            min_size,
            max_size,
            hash: self::hash(hash),
        },
        Shape::Fixed {
            hash,
            virtual_nodes,
            max_size,
        } => RingShape::Fixed {
            virtual_nodes: virtual_nodes.get(),
            max_size,
            hash: self::hash(hash),
        },
        Shape::Maglev { table_size } => RingShape::Maglev {
            table_size: table_size.get(),
        },
    }
}

fn hash(hash: HashFunction) -> RingHash {
    match hash {
        HashFunction::XxHash64 => RingHash::XxHash,
        HashFunction::Murmur2 => RingHash::MurmurHash2,
    }
}

pub(super) fn identity(identity: Identity) -> report::Identity {
    match identity {
        Identity::Address => report::Identity::Address,
        Identity::Id => report::Identity::Id,
    }
}

pub(super) fn health(rule: HealthRule) -> HealthReport {
    HealthReport {
        panic_threshold: rule.panic_threshold,
        overprovisioning_factor: rule.overprovisioning_factor,
        weighted_priority_health: rule.weighted,
    }
}

pub(super) fn bound(load: &Load) -> BoundReport {
    BoundReport {
        balance_factor: load.bound.balance_factor.map_or(0, |factor| factor.get()),
        min_capacity: load.bound.min_capacity,
        max_in_flight: load.bound.max_in_flight.map_or(0, |cap| cap.get()),
        scope: match load.scope {
            Scope::Process => LoadScope::Process,
            Scope::Fleet => LoadScope::Fleet,
        },
    }
}
