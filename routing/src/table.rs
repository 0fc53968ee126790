//! One service's instances on their ring: what the filter decides with, and `locate` explains.
//!
//! Immutable: a change of membership makes another table, which is swapped in whole.

use std::num::NonZeroU32;

use crate::bounded::{self, Bound, Choice, Loads, Reason};
use crate::hash::xxh64_chain;
use crate::membership::{Member, eligible};
use crate::movement;
use crate::ring::{Host, HostIndex, Ring, RingError, Shape};

/// The ring of the eligible instances, with the instances.
#[derive(Debug, Clone, Default)]
pub struct Table {
    hosts: Vec<Member>,
    ring: Ring,
    /// The ring as it would be with everyone eligible; only while somebody is not.
    whole: Option<(Vec<Member>, Ring)>,
    weights: u64,
    version: u64,
}

impl Table {
    /// The table of these members; the ones that may take no requests get no place on the ring.
    ///
    /// # Errors
    /// As [`Ring::build`].
    pub fn build(members: &[Member], shape: Shape) -> Result<Self, RingError> {
        let hosts = eligible(members);
        let whole = if hosts.len() == members.len() {
            None
        } else {
            Some((members.to_vec(), ring_of(members, shape)?))
        };
        Ok(Self {
            ring: ring_of(&hosts, shape)?,
            whole,
            weights: hosts.iter().map(|host| u64::from(host.weight.get())).sum(),
            version: version_of(&hosts, shape),
            hosts,
        })
    }

    /// The instances that take requests, in ring order of index.
    pub fn hosts(&self) -> &[Member] {
        &self.hosts
    }

    /// One of them.
    pub fn host(&self, index: HostIndex) -> Option<&Member> {
        self.hosts.get(index.get())
    }

    /// How many virtual nodes the ring has.
    pub fn points(&self) -> usize {
        self.ring.len()
    }

    /// Names the content of the ring: equal for equal members in equal order and an equal shape, on
    /// every machine. 16 hex digits.
    pub fn version(&self) -> String {
        format!("{:016x}", self.version)
    }

    /// Chooses up to `wanted` candidates for a key; `in_flight` is asked by index into
    /// [`Table::hosts`], `total` only where the bound needs it. `None` if nobody takes requests.
    pub fn choose(
        &self,
        hash: u64,
        wanted: usize,
        bound: Option<&Bound>,
        in_flight: impl Fn(usize) -> u64,
        total: impl Fn() -> u64,
    ) -> Option<Choice> {
        let loads = TableLoads {
            table: self,
            in_flight,
            total,
        };
        let mut choice = bounded::choose(&self.ring, hash, wanted, bound, &loads)?;
        if choice.reason == Reason::Primary && !self.is_true_owner(hash, choice.candidates.first())
        {
            choice.reason = Reason::Ejected;
        }
        Some(choice)
    }

    /// Whether `host` would own the hash were every instance eligible.
    fn is_true_owner(&self, hash: u64, host: HostIndex) -> bool {
        let Some((members, ring)) = &self.whole else {
            return true;
        };
        let owner = ring.owner(hash).and_then(|owner| members.get(owner.get()));
        owner.map(|owner| &owner.address) == self.host(host).map(|host| &host.address)
    }

    /// The share of all keys with another owner than in `old`, 0 to 1.
    pub fn moved_from(&self, old: &Table) -> f64 {
        movement::moved_share(&old.ring, &self.ring, |a, b| {
            old.host(a).map(|host| &host.address) == self.host(b).map(|host| &host.address)
        })
    }
}

fn ring_of(members: &[Member], shape: Shape) -> Result<Ring, RingError> {
    let hosts: Vec<Host<'_>> = members
        .iter()
        .map(|member| Host {
            name: &member.address,
            weight: member.weight,
        })
        .collect();
    Ring::build(&hosts, shape)
}

fn version_of(hosts: &[Member], shape: Shape) -> u64 {
    let shape = match shape {
        Shape::Envoy { min_size, max_size } => [0, min_size, max_size],
        Shape::Fixed {
            virtual_nodes,
            max_size,
        } => [1, u64::from(virtual_nodes.get()), max_size],
    };
    let shape = shape.map(u64::to_le_bytes);
    let weights: Vec<[u8; 4]> = hosts
        .iter()
        .map(|host| host.weight.get().to_le_bytes())
        .collect();
    let hosts = hosts.iter().zip(&weights);
    xxh64_chain(
        shape
            .iter()
            .map(<[u8; 8]>::as_slice)
            .chain(hosts.flat_map(|(host, weight)| [host.address.as_bytes(), weight.as_slice()])),
    )
}

struct TableLoads<'a, F, T> {
    table: &'a Table,
    in_flight: F,
    total: T,
}

impl<F: Fn(usize) -> u64, T: Fn() -> u64> Loads for TableLoads<'_, F, T> {
    fn in_flight(&self, host: HostIndex) -> u64 {
        (self.in_flight)(host.get())
    }

    fn total(&self) -> u64 {
        (self.total)()
    }

    fn weight(&self, host: HostIndex) -> (NonZeroU32, u64) {
        let weight = self
            .table
            .host(host)
            .map_or(NonZeroU32::MIN, |host| host.weight);
        (weight, self.table.weights)
    }

    fn hosts(&self) -> usize {
        self.table.hosts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::xxh64;

    const SHAPE: Shape = Shape::Fixed {
        virtual_nodes: NonZeroU32::new(160).unwrap(),
        max_size: 1 << 20,
    };

    fn member(port: u16, healthy: bool) -> Member {
        let address = format!("10.0.0.1:{port}");
        Member {
            id: address.clone(),
            address,
            weight: NonZeroU32::MIN,
            healthy,
        }
    }

    fn pick(table: &Table, key: &str) -> (String, Reason) {
        let choice = table
            .choose(xxh64(key.as_bytes()), 3, None, |_| 0, || 0)
            .unwrap();
        (
            table
                .host(choice.candidates.first())
                .unwrap()
                .address
                .clone(),
            choice.reason,
        )
    }

    #[test]
    fn a_key_of_an_ejected_owner_says_so_and_the_others_stay() {
        let all = [1, 2, 3, 4].map(|port| member(port, true));
        let mut sick = all.clone();
        sick[2].healthy = false;
        let before = Table::build(&all, SHAPE).unwrap();
        let after = Table::build(&sick, SHAPE).unwrap();
        for key in (0..500).map(|n| format!("user-{n}")) {
            let (owner, reason) = pick(&before, &key);
            assert_eq!(reason, Reason::Primary);
            let (now, reason) = pick(&after, &key);
            if owner == sick[2].address {
                assert_eq!(reason, Reason::Ejected);
                assert_ne!(now, owner);
            } else {
                assert_eq!((now, reason), (owner, Reason::Primary));
            }
        }
        assert!((0.15..0.35).contains(&after.moved_from(&before)));
    }

    #[test]
    fn a_version_changes_with_members_weights_and_shape() {
        let all = [1, 2].map(|port| member(port, true));
        let mut heavy = all.clone();
        heavy[0].weight = NonZeroU32::new(2).unwrap();
        let version = |members: &[Member]| Table::build(members, SHAPE).unwrap().version();
        assert_eq!(version(&all), version(&all));
        assert_ne!(version(&all), version(&all[..1]));
        assert_ne!(version(&all), version(&heavy));
        let envoy = Shape::Envoy {
            min_size: 1024,
            max_size: 1 << 20,
        };
        assert_ne!(version(&all), Table::build(&all, envoy).unwrap().version());
    }

    #[test]
    fn nobody_is_chosen_from_nobody() {
        let table = Table::build(&[], SHAPE).unwrap();
        assert_eq!(table.choose(1, 3, None, |_| 0, || 0), None);
    }
}
