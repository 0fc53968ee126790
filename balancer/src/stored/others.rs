//! How types of the other crates are stored in shared data.

use std::num::NonZeroU32;

use unitring_protocol::ids::{InstanceId, ReporterId, ServiceName};
use unitring_protocol::snapshot::{InstanceRest, ServiceSnapshot};
use unitring_routing::hash::HashFunction;
use unitring_routing::health::HealthRule;
use unitring_routing::membership::{Cause, Identity, Locality, Member, State, Warmth};
use unitring_routing::ring::Shape;
use unitring_routing::table::Rule;

use super::{Stored, stored, write_text};
use crate::balancer::Fleet;
use crate::placement::{LeftAll, Placing};

stored!(Member {
    id,
    address,
    hash_key,
    weight,
    warmth,
    state,
    excluded,
    priority,
    locality,
    steerable
});
stored!(Locality { index, weight, all });
stored!(Fleet { received_ms, rest });
stored!(ServiceSnapshot {
    service,
    reporters,
    rank,
    rest
});
stored!(InstanceRest {
    id,
    in_flight,
    before,
    own,
    updates_per_1000_s
});

stored!(Placing { rule, left });
stored!(Rule {
    shape,
    identity,
    health
});
stored!(HealthRule {
    panic_threshold,
    overprovisioning_factor,
    weighted
});

impl Stored for LeftAll {
    fn write(&self, to: &mut Vec<u8>) {
        let number: u32 = match self {
            LeftAll::Subsets => 1,
            LeftAll::UnknownConfig => 2,
            LeftAll::UnknownWeighting => 3,
            LeftAll::UnknownRuntime => 4,
        };
        number.write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        match u32::read(from)? {
            1 => Some(LeftAll::Subsets),
            2 => Some(LeftAll::UnknownConfig),
            3 => Some(LeftAll::UnknownWeighting),
            4 => Some(LeftAll::UnknownRuntime),
            _ => None,
        }
    }
}

impl Stored for Identity {
    fn write(&self, to: &mut Vec<u8>) {
        (*self == Identity::Id).write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Some(if bool::read(from)? {
            Identity::Id
        } else {
            Identity::Address
        })
    }
}

/// Four numbers: the kind of shape, the hash function, and two numbers of the shape.
impl Stored for Shape {
    fn write(&self, to: &mut Vec<u8>) {
        let hash = |hash: HashFunction| u64::from(hash == HashFunction::Murmur2);
        let numbers = match *self {
            Shape::Envoy {
                hash: function,
                min_size,
                max_size,
            } => [0, hash(function), min_size, max_size],
            Shape::Fixed {
                hash: function,
                virtual_nodes,
                max_size,
            } => [1, hash(function), virtual_nodes.get().into(), max_size],
            Shape::Maglev { table_size } => [2, 0, table_size.get().into(), 0],
        };
        numbers.iter().for_each(|number| number.write(to));
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let kind = u64::read(from)?;
        let hash = match u64::read(from)? {
            0 => HashFunction::XxHash64,
            1 => HashFunction::Murmur2,
            _ => return None,
        };
        let (first, max_size) = (u64::read(from)?, u64::read(from)?);
        let positive = || NonZeroU32::new(u32::try_from(first).ok()?);
        match kind {
            0 => Some(Shape::Envoy {
                hash,
                min_size: first,
                max_size,
            }),
            1 => Some(Shape::Fixed {
                hash,
                virtual_nodes: positive()?,
                max_size,
            }),
            2 => Some(Shape::Maglev {
                table_size: positive()?,
            }),
            _ => None,
        }
    }
}

/// Names are checked again when they are read: bytes that no VM wrote must not get past the rule.
macro_rules! stored_names {
    ($($name:ident),*) => {
        $(impl Stored for $name {
            fn write(&self, to: &mut Vec<u8>) {
                write_text(self.as_str(), to);
            }

            fn read(from: &mut &[u8]) -> Option<Self> {
                Self::try_from(String::read(from)?).ok()
            }
        })*
    };
}

stored_names!(InstanceId, ReporterId, ServiceName);

impl Stored for Warmth {
    fn write(&self, to: &mut Vec<u8>) {
        u32::from(self.percent()).write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        Warmth::new(u32::read(from)?.try_into().ok()?)
    }
}

/// In the order of the stored numbers.
const STATES: [State; 8] = [
    State::Serving,
    State::Draining,
    State::Failed(Cause::ActiveCheck),
    State::Failed(Cause::OutlierDetection),
    State::Failed(Cause::Told),
    State::Failed(Cause::GatewayFailures),
    State::Degraded,
    State::Failed(Cause::Untold),
];

impl Stored for State {
    fn write(&self, to: &mut Vec<u8>) {
        let number: u32 = match self {
            State::Serving => 0,
            State::Draining => 1,
            State::Failed(Cause::ActiveCheck) => 2,
            State::Failed(Cause::OutlierDetection) => 3,
            State::Failed(Cause::Told) => 4,
            State::Failed(Cause::GatewayFailures) => 5,
            State::Degraded => 6,
            State::Failed(Cause::Untold) => 7,
        };
        number.write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let number = usize::try_from(u32::read(from)?).ok()?;
        STATES.get(number).copied()
    }
}
