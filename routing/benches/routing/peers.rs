//! The structures that the ring is compared with, with the same number of points for each instance.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hashring::HashRing;
use pingora_ketama::{Bucket, Continuum, Version};
use unitring_routing::hash::xxh64;

use crate::fleet::POINTS_EACH;

/// unitring's points in a tree.
pub(crate) fn tree(addresses: &[String]) -> BTreeMap<u64, u32> {
    let points = (0u32..).zip(addresses).flat_map(points);
    points.collect()
}

/// The points of one instance.
pub(crate) fn points((host, address): (u32, &String)) -> impl Iterator<Item = (u64, u32)> + '_ {
    (0..POINTS_EACH).map(move |n| (xxh64(format!("{address}_{n}").as_bytes()), host))
}

/// A virtual node as in the documentation of `hashring`, which has no such type itself.
#[derive(Debug, Clone, Copy, PartialEq, Hash)]
pub(crate) struct VirtualNode {
    number: u32,
    pub(crate) address: SocketAddr,
}

/// The virtual nodes of one instance.
pub(crate) fn virtual_nodes(address: &str) -> impl Iterator<Item = VirtualNode> {
    let address: Option<SocketAddr> = address.parse().ok();
    let node = |(number, address)| VirtualNode { number, address };
    let numbers = 0..POINTS_EACH;
    numbers.filter_map(move |number| Some(node((number, address?))))
}

/// Adds all nodes at once, since `add` sorts the whole ring for each node.
pub(crate) fn hashring(addresses: &[String]) -> HashRing<VirtualNode> {
    let mut ring = HashRing::new();
    let nodes = addresses.iter().flat_map(|address| virtual_nodes(address));
    ring.batch_add(nodes.collect());
    ring
}

/// With as many points, each of 32 bits.
pub(crate) fn pingora(addresses: &[String]) -> Continuum {
    let buckets: Vec<Bucket> = addresses
        .iter()
        .filter_map(|address| address.parse().ok())
        .map(|address| Bucket::new(address, 1))
        .collect();
    let point_multiple = POINTS_EACH;
    Continuum::new_with_version(&buckets, Version::V2 { point_multiple })
}
