//! Random changes of a cluster while Envoy runs: by EDS, by CDS, and by the answers of hosts.

use std::path::Path;

use unitring_tests::traffic::keys::Numbers;

use super::address::Addresses;
use super::cluster::{Cluster, Host};
use super::policy::Policy;
use super::random::{self, Draws};
use super::responder::Check;
use super::shell;

/// Changes the parts of this cluster that may change.
pub(super) fn change(
    cluster: &mut Cluster,
    draws: &mut Draws,
    numbers: &mut Numbers,
    addresses: &Addresses,
) {
    let before = cluster.clone();
    if numbers.below(3) == 0 {
        *draws = Draws::random(numbers, cluster);
    }
    if cluster.is_eds() || cluster.by_api {
        for _ in 0..numbers.below(5) {
            change_endpoints(cluster, draws, numbers, addresses);
        }
    }
    if cluster.by_api && numbers.below(4) == 0 {
        change_settings(cluster, numbers);
    }
    for host in hosts(cluster) {
        if numbers.below(3) == 0 {
            let (check, request) = {
                let mut other = host.clone();
                random::sicken(&mut other, draws, numbers);
                (other.check, other.request)
            };
            (host.check, host.request) = (check, request);
        }
    }
    for host in &mut cluster.removed {
        if numbers.below(4) == 0 {
            host.check = Check::Fails;
        }
    }
    only_the_well_leave(cluster, &before);
    // Envoy does not use a cluster from CDS until each of its hosts was checked.
    let path = Path::new("");
    if cluster.config(path) != before.config(path) {
        for host in hosts(cluster).filter(|host| host.check == Check::Silent) {
            host.check = Check::Fails;
        }
    }
}

/// Keeps out a case that the pages do not show: a host that already fails its checks, and then announces
/// that it leaves, has the flag at once, but Envoy counts it until it rebuilds its lists for another
/// reason.
fn only_the_well_leave(cluster: &mut Cluster, before: &Cluster) {
    let is_same = cluster.assignment() == before.assignment();
    let hosts = cluster
        .localities
        .iter_mut()
        .flat_map(|locality| &mut locality.hosts);
    for (at, host) in hosts
        .enumerate()
        .filter(|(_, host)| host.check == Check::Leaves)
    {
        let before = before.hosts().nth(at).map(|host| host.check);
        let may = [Check::Passes, Check::Degraded, Check::Leaves].map(Some);
        if !is_same || !may.contains(&before) {
            host.check = Check::Fails;
        }
    }
}

fn change_endpoints(
    cluster: &mut Cluster,
    draws: &Draws,
    numbers: &mut Numbers,
    addresses: &Addresses,
) {
    match numbers.below(16) {
        0..=2 => add_host(cluster, draws, numbers, addresses),
        3 | 4 => {
            if let Some(host) = take_host(cluster, numbers) {
                cluster.removed.push(host);
            }
        }
        5 | 6 => {
            // To another locality, and often to another priority.
            if let Some(host) = take_host(cluster, numbers)
                && let Some(at) = index(cluster.localities.len(), numbers)
            {
                cluster.localities[at].hosts.push(host);
            }
        }
        7 => {
            let priority = numbers.pick(&[0, 0, 1, 2]);
            let locality = random::locality(priority, draws, numbers, addresses);
            cluster.localities.push(locality);
        }
        8 => {
            if let Some(at) = index(cluster.localities.len(), numbers) {
                let gone = cluster.localities.remove(at);
                cluster.removed.extend(gone.hosts);
            }
        }
        9 => {
            if let Some(at) = index(cluster.localities.len(), numbers) {
                cluster.localities[at].weight = random::locality_weight(draws, numbers);
            }
        }
        10 => {
            let other = random::overprovisioning(numbers);
            if cluster.may_change_overprovisioning() {
                cluster.overprovisioning = other;
            }
        }
        11 => numbers.shuffle(&mut cluster.localities),
        12 => {
            let at = index(cluster.localities.len(), numbers);
            if let Some(locality) = at.map(|at| &mut cluster.localities[at]) {
                locality.priority = numbers.pick(&[0, 0, 1, 2]);
            }
        }
        _ => change_hosts(cluster, draws, numbers),
    }
}

fn change_hosts(cluster: &mut Cluster, draws: &Draws, numbers: &mut Numbers) {
    let what = numbers.below(4);
    for host in hosts(cluster) {
        if numbers.below(2) == 0 {
            continue;
        }
        match what {
            0 => host.weight = random::weight(draws, numbers),
            1 => host.hash_key = random::hash_key(draws, numbers),
            2 => host.hostname = random::hostname(draws, numbers),
            _ => random::sicken(host, draws, numbers),
        }
    }
}

fn change_settings(cluster: &mut Cluster, numbers: &mut Numbers) {
    match numbers.below(3) {
        0 => cluster.panic_percent = random::panic_percent(numbers),
        1 => cluster.policy.by_locality = !cluster.policy.by_locality,
        // The sizes stay: the weights were drawn to suit them, small ones for a ring without a bound.
        _ => {
            let other = shell::without_untold(cluster.shell, Policy::random(numbers));
            cluster.policy.by_hostname = other.by_hostname;
            cluster.policy.is_fallback = other.is_fallback;
        }
    }
}

fn add_host(cluster: &mut Cluster, draws: &Draws, numbers: &mut Numbers, addresses: &Addresses) {
    let host = random::host(draws, numbers, addresses);
    if let Some(at) = index(cluster.localities.len(), numbers) {
        cluster.localities[at].hosts.push(host);
    }
}

fn take_host(cluster: &mut Cluster, numbers: &mut Numbers) -> Option<Host> {
    let at = index(cluster.localities.len(), numbers)?;
    let hosts = &mut cluster.localities[at].hosts;
    let host = index(hosts.len(), numbers)?;
    Some(hosts.remove(host))
}

fn hosts(cluster: &mut Cluster) -> impl Iterator<Item = &mut Host> {
    cluster
        .localities
        .iter_mut()
        .flat_map(|locality| &mut locality.hosts)
}

fn index(length: usize, numbers: &mut Numbers) -> Option<usize> {
    let end = u64::try_from(length).ok()?;
    usize::try_from(numbers.draw().checked_rem(end)?).ok()
}
