//! Free ports.
//!
//! They are below the range from which the kernel takes ports for outgoing connections, so that only
//! another server can take one first; then the start is retried on other ports.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

const FIRST: u16 = 11_000;
const COUNT: u16 = 20_000;
const TRIES_MAX: u32 = 4;

/// A port on 127.0.0.1 without a listener, never returned twice by this process.
///
/// # Errors
/// All ports are taken.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Concurrent test programs begin at different ports.
    let start = u16::try_from(std::process::id() % u32::from(COUNT / 100))? * 100;
    for _ in 0..COUNT {
        let offset =
            (u32::from(start) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % u32::from(COUNT);
        let port = FIRST + u16::try_from(offset)?;
        if is_free(port) {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST} to {}", FIRST + COUNT)
}

/// The first of `count` ports in a row, all of them free as in [`free`].
///
/// # Errors
/// There are none.
pub fn free_range(count: u16) -> Result<u16> {
    let mut first = free()?;
    let mut last = first;
    // Another thread may take a port in between, or one is in use.
    while last - first + 1 < count {
        let next = free()?;
        first = if next == last + 1 { first } else { next };
        last = next;
    }
    Ok(first)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Starts a server, and retries on other ports if another process took them first.
///
/// # Errors
/// Any other failure of the start.
pub async fn with_fresh_ports<T>(mut start: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES_MAX {
        match start().await {
            Err(error) if is_port_race(&format!("{error:?}")) => {}
            outcome => return outcome,
        }
    }
    start().await
}

fn is_port_race(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["address already in use", "eaddrinuse", "address in use"]
        .iter()
        .any(|sign| text.contains(sign))
}
