//! Addresses of hosts: with a server, without one, and odd ones.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Result;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use unitring_tests::traffic::keys::Numbers;

use crate::differential::front;

/// The address of a host; its text is Envoy's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Address {
    Tcp(SocketAddr),
    /// An IPv6 address with a zone, which no header can name.
    Scoped(u16),
    /// A Unix socket, which no header can name either.
    Socket(PathBuf),
    /// An endpoint of an internal listener, which no header can name either. Envoy has no such listener.
    Internal(u16),
}

impl Address {
    /// The address in Envoy's configuration.
    pub(super) fn config(&self) -> Value {
        match self {
            Self::Tcp(address) => front::address(&address.ip().to_string(), address.port()),
            Self::Scoped(port) => front::address("fe80::1%1", *port),
            Self::Socket(path) => json!({"pipe": {"path": path}}),
            Self::Internal(endpoint) => json!({"envoy_internal_address": {
                "server_listener_name": "inner",
                "endpoint_id": format!("e{endpoint}"),
            }}),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Scoped(port) => write!(f, "[fe80::1%1]:{port}"),
            Self::Socket(path) => path.display().fmt(f),
            Self::Internal(endpoint) => write!(f, "envoy://inner/e{endpoint}"),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The addresses of the hosts of one Envoy.
#[derive(Debug)]
pub(super) struct Addresses {
    /// Addresses with a server.
    pub(super) answering: Vec<Address>,
    /// Addresses without a server.
    pub(super) refusing: Vec<Address>,
}

const ANSWERING: u8 = 20;
const SOCKETS: u8 = 3;
const REFUSING: u8 = 6;

impl Addresses {
    /// Random addresses, including the ports, because a host's place on a ring depends on them: the same
    /// seed gives the same addresses. They are in a loopback network of their own, for `port` is also
    /// random.
    pub(super) fn random(numbers: &mut Numbers, folder: &std::path::Path, port: u16) -> Self {
        let [_, a, b, c, ..] = numbers.draw().to_le_bytes();
        let ip = |last| Ipv4Addr::new(127, 1 + a % 250, b, c.wrapping_add(last));
        let tcp = |ip: IpAddr, port| Address::Tcp(SocketAddr::new(ip, port));
        let mut answering: Vec<_> = (0..ANSWERING)
            .map(|last| tcp(ip(last).into(), port))
            .collect();
        answering.push(tcp(Ipv6Addr::LOCALHOST.into(), port));
        let sockets = (0..SOCKETS).map(|number| Address::Socket(folder.join(format!("s{number}"))));
        answering.extend(sockets);
        let mut refusing: Vec<_> = (1..=REFUSING)
            .map(|number| tcp(ip(number).into(), number.into()))
            .collect();
        refusing.push(tcp(Ipv6Addr::LOCALHOST.into(), 1));
        refusing.extend([Address::Scoped(80), Address::Scoped(port)]);
        refusing.extend([Address::Internal(1), Address::Internal(2)]);
        Self {
            answering,
            refusing,
        }
    }

    /// An address with a server, or sometimes another one if `any` allows it.
    pub(super) fn draw(&self, numbers: &mut Numbers, any: bool) -> Address {
        let among = if any && numbers.below(8) == 0 {
            &self.refusing
        } else {
            &self.answering
        };
        pick(numbers, among).clone()
    }
}

impl Addresses {
    /// An IP address with a server and without a zone.
    pub(super) fn draw_ip(&self, numbers: &mut Numbers) -> Address {
        loop {
            if let address @ Address::Tcp(_) = pick(numbers, &self.answering) {
                return address.clone();
            }
        }
    }
}

/// An element of a list that is not empty.
pub(super) fn pick<'a, T>(numbers: &mut Numbers, list: &'a [T]) -> &'a T {
    let end = u64::try_from(list.len()).expect("a short list");
    &list[usize::try_from(numbers.below(end)).expect("an index")]
}
