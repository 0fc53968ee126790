//! Instances before and after → what changed; and which of them may take requests.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use crate::hash::xxh64_chain;
use crate::ring::{Host, Ring, RingError, Shape};

/// An instance of a service, as discovery found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its address, `ip:port`.
    pub address: String,
    /// Its share of requests, relative to the others.
    pub weight: NonZeroU32,
    /// Whether it may take requests, as far as discovery knows.
    pub healthy: bool,
}

/// What happened to one instance between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It stays, but must not take requests.
    Ejected,
    /// It takes requests again.
    Recovered,
}

/// The changes from one look to the next, by address; in order of address.
pub fn diff<'a>(before: &'a [Member], after: &'a [Member]) -> Vec<(&'a str, Change)> {
    let old = by_address(before);
    let new = by_address(after);
    let removed = old.keys().filter(|address| !new.contains_key(*address));
    let mut changes: Vec<_> = removed.map(|address| (*address, Change::Removed)).collect();
    changes.extend(new.iter().filter_map(|(address, healthy)| {
        let change = match (old.get(address), healthy) {
            (None, _) => Change::Added,
            (Some(true), false) => Change::Ejected,
            (Some(false), true) => Change::Recovered,
            _ => return None,
        };
        Some((*address, change))
    }));
    changes.sort_unstable_by_key(|(address, _)| *address);
    changes
}

fn by_address(members: &[Member]) -> BTreeMap<&str, bool> {
    members
        .iter()
        .map(|member| (member.address.as_str(), member.healthy))
        .collect()
}

/// The share of healthy members, in percent, under which health is ignored: where most of a
/// service seems dead, the checks are likelier wrong than the service (Envoy's panic threshold).
pub const PANIC_THRESHOLD_PERCENT: usize = 50;

/// The members that may take requests, in their order: the healthy ones, or all if too few are.
pub fn eligible(members: &[Member]) -> Vec<&Member> {
    let healthy: Vec<&Member> = members.iter().filter(|member| member.healthy).collect();
    if healthy.len() * 100 < members.len() * PANIC_THRESHOLD_PERCENT {
        return members.iter().collect();
    }
    healthy
}

/// The ring of these members.
///
/// # Errors
/// As [`Ring::build`].
pub fn ring_of(members: &[&Member], shape: Shape) -> Result<Ring, RingError> {
    let hosts: Vec<Host<'_>> = members
        .iter()
        .map(|member| Host {
            name: &member.address,
            weight: member.weight,
        })
        .collect();
    Ring::build(&hosts, shape)
}

/// Names the content of a ring: equal for equal members in equal order and an equal shape, on
/// every machine.
pub fn ring_version(members: &[&Member], shape: Shape) -> u64 {
    let shape = match shape {
        Shape::Envoy { min_size, max_size } => [0, min_size, max_size],
        Shape::Fixed {
            virtual_nodes,
            max_size,
        } => [1, u64::from(virtual_nodes.get()), max_size],
    };
    let shape: Vec<u8> = shape
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let weights: Vec<[u8; 4]> = members
        .iter()
        .map(|member| member.weight.get().to_le_bytes())
        .collect();
    let hosts = members.iter().zip(&weights);
    xxh64_chain(
        std::iter::once(shape.as_slice()).chain(
            hosts.flat_map(|(member, weight)| [member.address.as_bytes(), weight.as_slice()]),
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(port: u16, healthy: bool) -> Member {
        Member {
            address: format!("10.0.0.1:{port}"),
            weight: NonZeroU32::MIN,
            healthy,
        }
    }

    #[test]
    fn a_diff_names_what_came_went_failed_and_recovered() {
        let before = [
            member(1, true),
            member(2, true),
            member(3, false),
            member(4, true),
        ];
        let after = [
            member(2, false),
            member(3, true),
            member(4, true),
            member(5, true),
        ];
        assert_eq!(
            diff(&before, &after),
            [
                ("10.0.0.1:1", Change::Removed),
                ("10.0.0.1:2", Change::Ejected),
                ("10.0.0.1:3", Change::Recovered),
                ("10.0.0.1:5", Change::Added),
            ]
        );
        assert_eq!(diff(&after, &after), []);
    }

    #[test]
    fn the_unhealthy_are_left_out_until_too_many_are() {
        let half = [member(1, true), member(2, false)];
        assert_eq!(eligible(&half), [&half[0]]);
        let third = [member(1, true), member(2, false), member(3, false)];
        assert_eq!(eligible(&third).len(), 3);
        assert!(eligible(&[]).is_empty());
    }

    #[test]
    fn a_ring_version_changes_with_members_weights_and_shape() {
        let shape = Shape::Envoy {
            min_size: 1024,
            max_size: 4096,
        };
        let [a, b] = [member(1, true), member(2, true)];
        let heavy = Member {
            weight: NonZeroU32::new(2).unwrap(),
            ..a.clone()
        };
        let version = ring_version(&[&a, &b], shape);
        assert_eq!(version, ring_version(&[&a, &b], shape));
        assert_ne!(version, ring_version(&[&a], shape));
        assert_ne!(version, ring_version(&[&heavy, &b], shape));
        assert_ne!(
            version,
            ring_version(
                &[&a, &b],
                Shape::Envoy {
                    min_size: 1,
                    max_size: 4096
                }
            )
        );
    }
}
