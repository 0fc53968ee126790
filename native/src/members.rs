//! Envoy's hosts → the members of a service.

use std::collections::HashMap;
use std::num::NonZeroU32;

use unitring_routing::membership::{Locality, Member, State};

use crate::binding::Hosts;
use crate::localities::{self, Name};

/// All hosts of a cluster, priority by priority, in Envoy's order. `by_locality`: whether the weights of
/// localities count.
pub(crate) fn read(hosts: &Hosts<'_>, by_locality: bool) -> Vec<Member> {
    let mut members = Vec::new();
    for priority in 0..hosts.priorities() {
        let localities = by_locality.then(|| Localities::of(hosts, priority));
        for at in 0..hosts.count(priority) {
            let address = String::from_utf8_lossy(hosts.address(priority, at));
            let state = hosts.state(priority, at);
            members.push(Member {
                hash_key: hosts.hash_key(priority, at),
                weight: NonZeroU32::new(hosts.weight(priority, at)).unwrap_or(NonZeroU32::MIN),
                state,
                priority,
                locality: localities
                    .as_ref()
                    .and_then(|localities| localities.locality(&hosts.locality(priority, at))),
                // The policy can answer with a healthy host only.
                steerable: state == State::Serving,
                ..Member::new(&address, &address)
            });
        }
    }
    members
}

/// The localities of a priority.
struct Localities {
    by_name: HashMap<Name, Locality>,
}

impl Localities {
    fn of(hosts: &Hosts<'_>, priority: u32) -> Self {
        let weights = hosts.locality_weights(priority);
        let all = weights.iter().map(|weight| u64::from(*weight)).sum();
        let places: Vec<Vec<&[u8]>> = (0..weights.len())
            .map(|place| hosts.healthy_in_locality(priority, place).collect())
            .collect();
        let listed = (0..hosts.count(priority)).map(|at| {
            let is_healthy = hosts.state(priority, at) == State::Serving;
            (
                hosts.locality(priority, at),
                hosts.address(priority, at),
                is_healthy,
            )
        });
        let named = localities::places_of(listed, &places).into_iter();
        let by_name = named.filter_map(|(name, place)| {
            let (index, weight) = (u32::try_from(place).ok()?, weights.get(place).copied()?);
            Some((name, Locality { index, weight, all }))
        });
        Self {
            by_name: by_name.collect(),
        }
    }

    fn locality(&self, name: &Name) -> Option<Locality> {
        self.by_name.get(name).copied()
    }
}
