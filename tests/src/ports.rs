//! Free ports.
//!
//! They are taken below the range from which the kernel gives ports to outgoing connections, so that
//! only another server can be faster; then the start is tried again on other ports.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

const FIRST: u16 = 11_000;
const COUNT: u16 = 20_000;
const TRIES_MAX: u32 = 4;

/// A port on 127.0.0.1 that nobody listens on, never given twice by this process.
///
/// # Errors
/// All are taken.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time begin at different places.
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

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Starts a server, and once more on other ports if another process took them in between.
///
/// # Errors
/// Whatever else kept it from starting.
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
