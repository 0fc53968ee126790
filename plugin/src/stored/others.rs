//! Types of the other crates, as they lie in shared data.

use unitring_protocol::ids::{InstanceId, ReporterId, ServiceName};
use unitring_protocol::snapshot::{InstanceRest, ServiceSnapshot};
use unitring_routing::membership::{Cause, Locality, Member, State, Warmth};

use super::{Stored, stored, write_text};
use crate::balancer::Fleet;

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
    own
});

/// A name is checked again: bytes that no VM wrote must not get past its rule.
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

/// In the order of their numbers.
const STATES: [State; 7] = [
    State::Serving,
    State::Draining,
    State::Failed(Cause::ActiveCheck),
    State::Failed(Cause::OutlierDetection),
    State::Failed(Cause::Told),
    State::Failed(Cause::GatewayFailures),
    State::Degraded,
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
        };
        number.write(to);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let number = usize::try_from(u32::read(from)?).ok()?;
        STATES.get(number).copied()
    }
}
