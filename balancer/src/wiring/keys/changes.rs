//! Routes that change a source of the key: Envoy hashes it after that, the filter before.

use super::Mistake;
use crate::discovery::routes::{HashFrom, HashSource, Route};

/// Checks that a route neither changes nor removes a header that the key has.
pub(super) fn of_key(key: &[HashSource], route: &Route) -> Option<Mistake> {
    let headers = key.iter().filter_map(|source| match &source.from {
        HashFrom::Header(name) => Some(name.as_str()),
        HashFrom::Cookie(_) => Some("cookie"),
        _ => None,
    });
    let headers: Vec<&str> = headers.collect();
    let mut names = route.changes.iter().chain(&route.removes_from_requests);
    let name = names.find(|name| headers.contains(&name.as_str()))?;
    Some(Mistake::new(
        format!(
            "a route of virtual host {} changes {name}, which the filter hashes as it arrives and Envoy as changed",
            route.virtual_host
        ),
        "a key that the route does not change, in the filter's key and in the hash_policy",
    ))
}
