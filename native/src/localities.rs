//! Envoy's order of the localities of a priority. Pure.
//!
//! Envoy tells the weight of a locality by its place, and the name of a locality with each host. What joins the two
//! is Envoy's order: by region, zone and sub-zone, but the locality of this Envoy's own node first
//! (`PriorityStateManager::updateClusterPrioritySet`). Envoy does not say which locality that is. But it gives the
//! healthy hosts of each place.

use std::collections::BTreeMap;

/// Region, zone, sub-zone.
pub(crate) type Name = [String; 3];

/// The place of each locality. `hosts`: those of a priority, each with its locality, its address and whether it is
/// healthy. `places`: the addresses of the healthy hosts of each place.
///
/// An address may occur in several localities, so one host does not identify its place. A locality whose last host
/// was removed for its health keeps an empty place, and Envoy does not give its name. This picks, of all orders that
/// Envoy may have, the one by which the most places have the hosts that they should.
pub(crate) fn places_of<'a>(
    hosts: impl Iterator<Item = (Name, &'a [u8], bool)>,
    places: &[Vec<&'a [u8]>],
) -> Vec<(Name, usize)> {
    let mut healthy: BTreeMap<Name, Vec<&[u8]>> = BTreeMap::new();
    for (name, address, is_healthy) in hosts {
        let addresses = healthy.entry(name).or_default();
        addresses.extend(is_healthy.then_some(address));
    }
    let sorted: Vec<(Name, Vec<&[u8]>)> = healthy.into_iter().collect();
    let mut best: Option<Fit> = None;
    for first in 0..sorted.len() {
        let fit = Fit::of(with_first(&sorted, first), places);
        let is_whole = fit.fitting == sorted.len();
        if best.as_ref().is_none_or(|best| fit.fitting > best.fitting) {
            best = Some(fit);
        }
        if is_whole {
            break;
        }
    }
    best.map_or_else(Vec::new, |fit| fit.places)
}

/// The places of localities in some order.
struct Fit {
    places: Vec<(Name, usize)>,
    /// How many of them have the hosts that they should.
    fitting: usize,
}

impl Fit {
    fn of<'a, 'b: 'a>(
        order: impl Iterator<Item = &'a (Name, Vec<&'b [u8]>)> + Clone,
        places: &[Vec<&[u8]>],
    ) -> Self {
        // How many places are left for localities without hosts.
        let mut spare = places.len().saturating_sub(order.clone().count());
        let (mut next, mut fitting) = (0, 0);
        let mut found = Vec::new();
        for (name, healthy) in order {
            let ahead = places.get(next..).unwrap_or_default().iter();
            let passed = ahead.take(spare + 1).position(|place| place == healthy);
            fitting += usize::from(passed.is_some());
            let passed = passed.unwrap_or(0);
            spare -= passed;
            found.push((name.clone(), next + passed));
            next += passed + 1;
        }
        Self {
            places: found,
            fitting,
        }
    }
}

/// A list with the element of this index before all others.
fn with_first<T>(list: &[T], first: usize) -> impl Iterator<Item = &T> + Clone {
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

    /// The zone of each place; `-` for an empty place of a locality without hosts.
    fn zones(hosts: &[(&str, &str, bool)], places: &[&[&str]]) -> Vec<String> {
        let hosts = hosts
            .iter()
            .map(|(zone, address, healthy)| (name(zone), address.as_bytes(), *healthy));
        let addresses: Vec<Vec<&[u8]>> = places
            .iter()
            .map(|place| place.iter().map(|address| address.as_bytes()).collect())
            .collect();
        let mut zones = vec!["-".to_owned(); places.len()];
        for ([_, zone, _], place) in places_of(hosts, &addresses) {
            assert_eq!(zones[place], "-");
            zones[place] = zone;
        }
        zones
    }

    #[test]
    fn an_address_in_two_localities_does_not_confuse_them() {
        let hosts = [
            ("a", "1", true),
            ("a", "2", true),
            ("b", "1", true),
            ("b", "3", true),
        ];
        assert_eq!(zones(&hosts, &[&["1", "2"], &["1", "3"]]), ["a", "b"]);
        assert_eq!(zones(&hosts, &[&["1", "3"], &["1", "2"]]), ["b", "a"]);
    }

    #[test]
    fn a_locality_without_a_healthy_host_has_its_place_by_its_name() {
        let hosts = [("c", "3", false), ("b", "2", true), ("a", "1", false)];
        assert_eq!(zones(&hosts, &[&[], &["2"], &[]]), ["a", "b", "c"]);
        // The own locality is `b`.
        assert_eq!(zones(&hosts, &[&["2"], &[], &[]]), ["b", "a", "c"]);
        assert_eq!(zones(&[], &[]), [""; 0]);
    }

    #[test]
    fn a_locality_that_lost_its_last_host_keeps_an_empty_place() {
        let hosts = [("b", "2", true), ("c", "3", true)];
        assert_eq!(zones(&hosts, &[&[], &["2"], &["3"]]), ["-", "b", "c"]);
        assert_eq!(
            zones(&hosts, &[&["3"], &[], &["2"], &[]]),
            ["c", "-", "b", "-"]
        );
    }

    proptest! {
        #[test]
        fn each_place_has_the_hosts_that_envoy_puts_there(
            hosts in prop::collection::vec(("[a-d]", "[1-5]", any::<bool>()), 0..12),
            gone in prop::collection::vec("[a-d]", 0..3),
            local in "[a-d]",
        ) {
            let listed: Vec<(&str, &str, bool)> =
                hosts.iter().map(|(zone, address, healthy)| (zone.as_str(), address.as_str(), *healthy)).collect();
            let names = listed.iter().map(|(zone, ..)| *zone).chain(gone.iter().map(String::as_str));
            let mut envoys: Vec<&str> = names.collect();
            envoys.sort_by_key(|zone| (*zone != local, *zone));
            envoys.dedup();
            let healthy = |zone: &str| -> Vec<&str> {
                let here = listed.iter().filter(|(other, _, healthy)| *other == zone && *healthy);
                here.map(|(_, address, _)| *address).collect()
            };
            let places: Vec<Vec<&str>> = envoys.iter().map(|zone| healthy(zone)).collect();
            let slices: Vec<&[&str]> = places.iter().map(Vec::as_slice).collect();
            let found = zones(&listed, &slices);
            // Localities with the same healthy hosts may stand for each other.
            for (zone, place) in found.iter().zip(&places) {
                prop_assert_eq!(&healthy(zone), place);
            }
            let missing = listed.iter().find(|(zone, ..)| !found.iter().any(|other| other == zone));
            prop_assert_eq!(missing, None);
        }
    }
}
