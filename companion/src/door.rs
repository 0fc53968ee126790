//! The way in: from an accepted connection to a request that a handler may answer, or to a refusal.
//!
//! Invariant: a refused client holds nothing that others need. A connection that has never had an answer makes
//! room for a new one; a request is known, allowed and read to its end before it takes a place among those that
//! are worked on.
//!
//! | module | arrow |
//! |---|---|
//! | [`credentials`] | settings and files → credentials with their roles (pure but for [`Keyring::read`]) |
//! | [`need`] | method and path → the role that is needed, and the bound of the body (pure) |
//! | [`site`] | headers → whether a browser was led here by another site (pure) |
//! | [`connections`] | new connection → which one has to go (pure) |
//! | [`patience`] | bytes of a connection → the same bytes, or the end of a client that is too slow |
//! | [`listener`] | listening address → connections, encrypted if the settings say so |
//! | [`budget`] | request → a place among those of its kind and its client |
//! | [`kept`] | bytes that a client makes us keep → whether they fit |
//! | [`certificates`] | files of certificates → what TLS needs |
//! | [`strain`] | requests turned away → whether anything may expire |
//! | [`descriptors`] | the process' limit of open files → how many connections fit |

pub(crate) mod budget;
pub(crate) mod certificates;
pub(crate) mod connections;
pub(crate) mod credentials;
pub(crate) mod descriptors;
pub(crate) mod kept;
pub(crate) mod listener;
pub(crate) mod need;
pub(crate) mod patience;
pub(crate) mod site;
pub(crate) mod strain;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

pub(crate) use credentials::{Caller, Keyring};
use tokio::sync::watch;

/// The settings of the way in, as they may change while the process runs.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The credentials with their roles.
    pub keyring: Keyring,
    /// The names that a client may call this companion by, besides addresses.
    pub host_names: Vec<String>,
}

pub(crate) type InForce = watch::Receiver<Arc<Rules>>;

/// A client, by its address: the whole IPv6 network that one machine may use counts as one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address(IpAddr);

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            address => address,
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
