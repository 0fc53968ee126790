//! The companion's registry → members. The registry knows nothing of an instance's health but
//! whether it is draining.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use unitring_protocol::ids::InstanceId;
use unitring_routing::membership::{Member, State};
use unitring_routing::names::Names;

use super::DiscoveryError;
use crate::json::{self, Json, JsonError};
use crate::settings::INSTANCES_MAX;

const FIELDS: [&str; 5] = ["instances", "id", "address", "weight", "draining"];

/// Reads the companion's answer.
///
/// # Errors
/// [`DiscoveryError`]; the last members stay.
pub fn read(body: &[u8]) -> Result<Vec<Member>, DiscoveryError> {
    let answer = json::read(body, &FIELDS).map_err(DiscoveryError::NoRegistry)?;
    let instances = answer
        .list("instances")
        .map_err(DiscoveryError::NoRegistry)?;
    let instances = instances.ok_or(DiscoveryError::NoRegistry(JsonError::Missing("instances")))?;
    if instances.len() > INSTANCES_MAX {
        return Err(DiscoveryError::TooMany(instances.len()));
    }
    let members = instances.iter().map(member).collect::<Result<_, _>>();
    let members = members.map_err(DiscoveryError::NoRegistry)?;
    // Two ids of one address are one instance.
    Ok(without_repeated_addresses(members))
}

fn member(registered: &Json) -> Result<Member, JsonError> {
    let id = registered.text("id")?.ok_or(JsonError::Missing("id"))?;
    let id: InstanceId = id.parse().map_err(|_| JsonError::Invalid("id"))?;
    let address = registered.text("address")?;
    let address = address.ok_or(JsonError::Missing("address"))?;
    let address: SocketAddr = address.parse().map_err(|_| JsonError::Invalid("address"))?;
    let weight = registered.number("weight")?;
    let weight: u32 = weight.ok_or(JsonError::Missing("weight"))?;
    let draining = registered.flag("draining")?;
    Ok(Member {
        weight: NonZeroU32::new(weight).ok_or(JsonError::Invalid("weight"))?,
        state: if draining {
            State::Draining
        } else {
            State::Serving
        },
        excluded: draining,
        ..Member::new(id.as_str(), &address.to_string())
    })
}

/// Keeps the first member of each address.
fn without_repeated_addresses(members: Vec<Member>) -> Vec<Member> {
    let addresses = Names::of(members.iter().map(|member| member.address.as_str()));
    let first = members.iter().enumerate();
    let first = first.map(|(at, member)| addresses.first(&member.address) == Some(at));
    let first: Vec<bool> = first.collect();
    let members = members.into_iter().zip(first);
    members
        .filter_map(|(member, is_first)| is_first.then_some(member))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_registry_has_ids_weights_and_who_drains() {
        let body = br#"{"revision": 7, "instances": [
            {"id": "a", "address": "10.0.0.1:80", "weight": 2, "draining": false, "expires_ms": null},
            {"id": "b", "address": "[::1]:80", "weight": 1, "draining": true},
            {"id": "c", "address": "10.0.0.1:80", "weight": 1}
        ]}"#;
        let members = read(body).unwrap();
        let seen: Vec<_> = members
            .iter()
            .map(|m| (m.id.as_str(), m.address.as_str(), m.weight.get(), m.state))
            .collect();
        let expected = [
            ("a", "10.0.0.1:80", 2, State::Serving),
            ("b", "[::1]:80", 1, State::Draining),
        ];
        assert_eq!(seen, expected);
        assert!(read(b"{}").is_err());
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            drop(read(&bytes));
        }
    }
}
