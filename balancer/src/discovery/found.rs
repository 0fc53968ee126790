//! All answers of a look → what they say of a service.

use unitring_protocol::ids::InstanceId;
use unitring_routing::membership::{Identity, Locality, Member};
use unitring_routing::names::Names;

use super::cluster::Cluster;
use super::endpoints::{Endpoints, Index};
use super::page::{HostCounts, Page};
use super::runtime::Runtime;
use super::statuses::{Hidden, Seen};

/// What Envoy says of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Its instances as Envoy judges them, before the filter's own ejection and slow start.
    pub members: Vec<Member>,
    /// Envoy's counts by id, each id once.
    pub counts: Vec<(String, HostCounts)>,
    /// Its cluster's policy; `None` if Envoy does not show it.
    pub cluster: Option<Cluster>,
    /// The overprovisioning factor of its endpoints' policy.
    pub overprovisioning_factor: Option<u32>,
    /// Whether its localities are known, or it has only one.
    pub knows_localities: bool,
    /// Whether an instance has a hash key, by which Envoy places it.
    pub has_hash_keys: bool,
    /// What Envoy's runtime says in place of the cluster's configuration.
    pub runtime: Runtime,
    /// Whether it may say something that Envoy does not show.
    pub hides_runtime: bool,
    /// The statuses of the answers at least since the last page.
    pub statuses: Seen,
    /// Why Envoy does not show all of them; `None` if it does, or nobody has asked.
    pub hidden_statuses: Option<Hidden>,
}

/// What a page and the configuration say, with instances identified by `identity`; `None` follows
/// Envoy's configuration. The runtime and statuses are not in it.
pub(super) fn read(
    page: &Page,
    endpoints: Option<&Endpoints>,
    cluster: Option<&Cluster>,
    identity: Option<Identity>,
) -> Found {
    let hashing = cluster.map(|cluster| cluster.policy.fallback.hashing());
    let hashing = hashing.unwrap_or_default();
    let mut index = endpoints.map(Index::new);
    let mut members = Vec::with_capacity(page.hosts.len());
    let mut has_hash_keys = false;
    for host in &page.hosts {
        let place = index
            .as_ref()
            .and_then(|index| index.place(host.priority, &host.locality));
        let key = place.and_then(|at| index.as_mut()?.next_key(at, &host.address));
        has_hash_keys |= key.is_some();
        let by_hostname = hashing.by_hostname.then_some(host.hostname.as_str());
        let weight = place.and_then(|at| index.as_ref()?.weight(at));
        let locality = weight
            .filter(|_| hashing.by_locality)
            .and_then(|(weight, all)| {
                let index = u32::try_from(place?).ok()?;
                Some(Locality { index, weight, all })
            });
        let named = identity == Some(Identity::Id) && host.hostname.parse::<InstanceId>().is_ok();
        let id = if named { &host.hostname } else { &host.address };
        members.push(Member {
            hash_key: match identity {
                None => key.or(by_hostname).map(str::to_owned),
                Some(_) => None,
            },
            weight: host.weight,
            state: host.state,
            excluded: host.excluded,
            priority: host.priority,
            locality,
            steerable: host.is_steerable(),
            ..Member::new(id, &host.address)
        });
    }
    without_shared_ids(&mut members);
    Found {
        counts: counts(page, &members),
        members,
        cluster: cluster.cloned(),
        overprovisioning_factor: endpoints.and_then(|endpoints| endpoints.overprovisioning_factor),
        knows_localities: endpoints.is_some() || !has_several_localities(page),
        has_hash_keys,
        ..Found::default()
    }
}

/// A hostname that several addresses share, as those of one DNS name do, is no id: those members
/// get their address as id.
fn without_shared_ids(members: &mut [Member]) {
    let ids = Names::of(members.iter().map(|member| member.id.as_str()));
    let is_shared = |member: &Member| {
        let mut places = ids.places(&member.id).filter_map(|at| members.get(at));
        places.any(|other| other.address != member.address)
    };
    let shared: Vec<bool> = members.iter().map(is_shared).collect();
    for (member, is_shared) in members.iter_mut().zip(shared) {
        if is_shared {
            member.id.clone_from(&member.address);
        }
    }
}

fn counts(page: &Page, members: &[Member]) -> Vec<(String, HostCounts)> {
    let ids = Names::of(members.iter().map(|member| member.id.as_str()));
    let count = |at: usize| page.hosts.get(at).map(|host| host.counts);
    ids.each()
        .map(|(id, _)| {
            let all = ids.places(id).filter_map(count);
            (
                id.to_owned(),
                all.fold(HostCounts::default(), HostCounts::plus),
            )
        })
        .collect()
}

fn has_several_localities(page: &Page) -> bool {
    let names = page.hosts.iter().map(|host| host.locality.as_str());
    Names::of(names).each().count() > 1
}
