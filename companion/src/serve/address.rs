//! Listening addresses, and the way out if one cannot be bound.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::ServeError;

/// Listens on the address that this flag chooses.
pub(super) async fn listen(
    flag: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, ServeError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| ServeError::Listen {
        flag,
        address,
        source,
    })
}

/// The way out if an address cannot be bound.
pub(super) fn way_out(error: &io::Error, flag: &str) -> String {
    let why = match error.kind() {
        ErrorKind::AddrInUse => "does another companion run there?",
        ErrorKind::AddrNotAvailable => "this machine has no such address:",
        ErrorKind::PermissionDenied => "ports below 1024 need a privilege:",
        _ => return String::new(),
    };
    format!(": {why} choose another by {flag}")
}

/// The address that is listened on, with its port.
pub(super) fn bound(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}
