//! The registry: the instances of each service, as they or their operators register them. It feeds
//! Envoy through [`crate::xds`], and filters that discover by companion.
//!
//! Values only; where it is kept is [`crate::store`], and [`crate::registry_feed`] follows it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use unitring_protocol::ids::{InstanceId, ServiceName};

/// The largest weight, so that the sum of a service fits in Envoy's 32 bits.
pub(crate) const WEIGHT_MAX: u32 = 65_536;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub id: InstanceId,
    /// Where requests for it go.
    pub address: SocketAddr,
    /// Its share is `weight` of the sum of weights.
    pub weight: NonZeroU32,
    /// Whether it takes no new keys, and finishes what it has.
    #[serde(default)]
    pub draining: bool,
    /// When it is forgotten unless renewed, in milliseconds since the Unix epoch; `None` for never.
    pub expires_ms: Option<u64>,
}

impl Registered {
    /// Whether Envoy has to receive the change from `self` to `new`.
    pub fn differs(&self, new: &Self) -> bool {
        let of = |one: &Self| (one.address, one.weight, one.draining);
        of(self) != of(new)
    }
}

/// The outcome of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// There was none of this id.
    Created,
    /// Address or weight changed, or it began or ended to drain.
    Changed,
    /// Only its time was renewed.
    Renewed,
}

/// The whole registry at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    /// Grows with each change.
    pub revision: u64,
    pub services: BTreeMap<ServiceName, BTreeMap<InstanceId, Registered>>,
}

impl Registry {
    /// The instances of a service, in order of id.
    pub fn instances(&self, service: &str) -> impl Iterator<Item = &Registered> {
        self.services
            .get(service)
            .into_iter()
            .flat_map(BTreeMap::values)
    }
}
