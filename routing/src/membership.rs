//! Instances before and after → what changed; and which of them may take requests.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// An instance of a service, as discovery found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What people and reports call it; its address unless it was given a name.
    pub id: String,
    /// Where requests go, `ip:port`; it is placed on the ring by this.
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

/// The changes from one look to the next, in order of address.
pub fn diff<'a>(before: &'a [Member], after: &'a [Member]) -> Vec<(&'a Member, Change)> {
    let old = by_address(before);
    let new = by_address(after);
    let removed = old
        .iter()
        .filter(|(address, _)| !new.contains_key(*address));
    let mut changes: Vec<_> = removed
        .map(|(_, member)| (*member, Change::Removed))
        .collect();
    changes.extend(new.iter().filter_map(|(address, member)| {
        let change = match (old.get(address).map(|old| old.healthy), member.healthy) {
            (None, _) => Change::Added,
            (Some(true), false) => Change::Ejected,
            (Some(false), true) => Change::Recovered,
            _ => return None,
        };
        Some((*member, change))
    }));
    changes.sort_unstable_by_key(|(member, _)| member.address.as_str());
    changes
}

fn by_address(members: &[Member]) -> BTreeMap<&str, &Member> {
    members
        .iter()
        .map(|member| (member.address.as_str(), member))
        .collect()
}

/// The share of healthy members, in percent, under which health is ignored: where most of a
/// service seems dead, the checks are likelier wrong than the service (Envoy's panic threshold).
pub const PANIC_THRESHOLD_PERCENT: usize = 50;

/// The members that may take requests, in their order: the healthy ones, or all if too few are.
pub fn eligible(members: &[Member]) -> Vec<Member> {
    let healthy = members.iter().filter(|member| member.healthy).count();
    let panic = healthy * 100 < members.len() * PANIC_THRESHOLD_PERCENT;
    members
        .iter()
        .filter(|member| panic || member.healthy)
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(port: u16, healthy: bool) -> Member {
        let address = format!("10.0.0.1:{port}");
        Member {
            id: address.clone(),
            address,
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
        let changes: Vec<_> = diff(&before, &after)
            .into_iter()
            .map(|(member, change)| (member.address.as_str(), change))
            .collect();
        assert_eq!(
            changes,
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
        assert_eq!(eligible(&half), [half[0].clone()]);
        let third = [member(1, true), member(2, false), member(3, false)];
        assert_eq!(eligible(&third), third);
        assert!(eligible(&[]).is_empty());
    }
}
