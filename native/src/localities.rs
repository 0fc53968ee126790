//! Envoy's order of the localities of a priority. Pure.
//!
//! Envoy tells the weight of a locality by its place, and the name of a locality with each host. What joins the two
//! is Envoy's order: by region, zone and sub-zone, but the locality of this Envoy's own node first
//! (`PriorityStateManager::updateClusterPrioritySet`). It tells nobody which that is. But it tells the healthy hosts
//! of each place.

use std::collections::BTreeMap;

/// Region, zone, sub-zone.
pub(crate) type Name = [String; 3];

/// The names in Envoy's order. `hosts`: those of a priority, each with its locality, its address and whether it is
/// healthy. `places`: the addresses of the healthy hosts of each place.
///
/// An address may occur in several localities, so one host does not tell its place. Of all orders that Envoy may
/// have, this is the one by which the most places have the hosts that they should.
pub(crate) fn in_order<'a>(
    hosts: impl Iterator<Item = (Name, &'a [u8], bool)>,
    places: &[Vec<&'a [u8]>],
) -> Vec<Name> {
    let mut healthy: BTreeMap<Name, Vec<&[u8]>> = BTreeMap::new();
    for (name, address, is_healthy) in hosts {
        let addresses = healthy.entry(name).or_default();
        addresses.extend(is_healthy.then_some(address));
    }
    let sorted: Vec<(Name, Vec<&[u8]>)> = healthy.into_iter().collect();
    let fitting = |first: usize| {
        let order = with_first(&sorted, first);
        order
            .zip(places)
            .filter(|((_, here), place)| here == *place)
            .count()
    };
    let mut best = (0, 0);
    for first in 0..sorted.len() {
        let fits = fitting(first);
        if fits > best.1 {
            best = (first, fits);
        }
        if fits == sorted.len() {
            break;
        }
    }
    with_first(&sorted, best.0)
        .map(|(name, _)| name.clone())
        .collect()
}

/// A list with the element of this index before all others.
fn with_first<T>(list: &[T], first: usize) -> impl Iterator<Item = &T> {
    let others = list.iter().enumerate().filter(move |(at, _)| *at != first);
    list.get(first)
        .into_iter()
        .chain(others.map(|(_, element)| element))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(zone: &str) -> Name {
        ["north".to_owned(), zone.to_owned(), String::new()]
    }

    fn order(hosts: &[(&str, &str, bool)], places: &[&[&str]]) -> Vec<String> {
        let hosts = hosts
            .iter()
            .map(|(zone, address, healthy)| (name(zone), address.as_bytes(), *healthy));
        let places: Vec<Vec<&[u8]>> = places
            .iter()
            .map(|place| place.iter().map(|address| address.as_bytes()).collect())
            .collect();
        let found = in_order(hosts, &places).into_iter();
        found.map(|[_, zone, _]| zone).collect()
    }

    #[test]
    fn an_address_in_two_localities_does_not_confuse_them() {
        let hosts = [
            ("a", "1", true),
            ("a", "2", true),
            ("b", "1", true),
            ("b", "3", true),
        ];
        assert_eq!(order(&hosts, &[&["1", "2"], &["1", "3"]]), ["a", "b"]);
        assert_eq!(order(&hosts, &[&["1", "3"], &["1", "2"]]), ["b", "a"]);
    }

    #[test]
    fn a_locality_without_a_healthy_host_has_its_place_by_its_name() {
        let hosts = [("c", "3", false), ("b", "2", true), ("a", "1", false)];
        assert_eq!(order(&hosts, &[&[], &["2"], &[]]), ["a", "b", "c"]);
        // The own locality is `b`.
        assert_eq!(order(&hosts, &[&["2"], &[], &[]]), ["b", "a", "c"]);
        assert_eq!(order(&[], &[]), [""; 0]);
    }

    proptest! {
        #[test]
        fn each_place_has_the_hosts_that_envoy_puts_there(
            hosts in prop::collection::vec(("[a-d]", "[1-5]", any::<bool>()), 0..12),
            local in "[a-d]",
        ) {
            let mut zones: Vec<&str> = hosts.iter().map(|(zone, ..)| zone.as_str()).collect();
            zones.sort_by_key(|zone| (*zone != local, *zone));
            zones.dedup();
            let healthy = |zone: &str| -> Vec<&str> {
                let here = hosts.iter().filter(|(other, _, healthy)| other == zone && *healthy);
                here.map(|(_, address, _)| address.as_str()).collect()
            };
            let places: Vec<Vec<&str>> = zones.iter().map(|zone| healthy(zone)).collect();
            let listed: Vec<(&str, &str, bool)> =
                hosts.iter().map(|(zone, address, healthy)| (zone.as_str(), address.as_str(), *healthy)).collect();
            let slices: Vec<&[&str]> = places.iter().map(Vec::as_slice).collect();
            let found = order(&listed, &slices);
            prop_assert_eq!(found.len(), zones.len());
            // Localities with the same healthy hosts may stand for each other.
            for (zone, place) in found.iter().zip(&places) {
                prop_assert_eq!(&healthy(zone), place);
            }
        }
    }
}
