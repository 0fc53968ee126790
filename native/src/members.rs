//! Envoy's hosts → the members of a service.

use std::collections::HashMap;
use std::num::NonZeroU32;

use unitring_routing::membership::{Locality, Member, State};

use crate::binding::Hosts;

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
                    .and_then(|localities| localities.place(&hosts.locality(priority, at))),
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
    weights: Vec<u32>,
    all: u64,
    /// Their places by name.
    places: HashMap<String, usize>,
}

impl Localities {
    /// Envoy tells the weights by place, and the name with each host. A healthy host of a locality joins the two.
    /// A locality without a healthy host is the next one that is left.
    fn of(hosts: &Hosts<'_>, priority: u32) -> Self {
        let weights = hosts.locality_weights(priority);
        let names = (0..hosts.count(priority)).map(|at| (hosts.address(priority, at), at));
        let by_address: HashMap<&[u8], usize> = names.collect();
        let mut places = HashMap::new();
        let mut left = Vec::new();
        for place in 0..weights.len() {
            let first = hosts.first_of_locality(priority, place);
            match first.and_then(|address| by_address.get(address)) {
                Some(at) => _ = places.insert(hosts.locality(priority, *at), place),
                None => left.push(place),
            }
        }
        let mut left = left.into_iter();
        for at in 0..hosts.count(priority) {
            let name = hosts.locality(priority, at);
            if !places.contains_key(&name)
                && let Some(place) = left.next()
            {
                places.insert(name, place);
            }
        }
        Self {
            all: weights.iter().map(|weight| u64::from(*weight)).sum(),
            weights,
            places,
        }
    }

    fn place(&self, name: &str) -> Option<Locality> {
        let place = *self.places.get(name)?;
        Some(Locality {
            index: u32::try_from(place).ok()?,
            weight: self.weights.get(place).copied()?,
            all: self.all,
        })
    }
}
