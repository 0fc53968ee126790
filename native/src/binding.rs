//! Envoy's C interface, made safe: the only code of the module that is `unsafe`.
//!
//! | module | what |
//! |---|---|
//! | [`abi`] | Envoy's declarations |
//! | [`hooks`] | what Envoy calls; none lets a panic through, which would end Envoy |
//! | [`hosts`] | the hosts of a cluster as one thread sees them |
//! | [`request`] | a request, or a connection, that needs a host |
//! | [`metrics`] | counters and gauges of a policy |
//! | [`server`] | the process: log, timer, requests to clusters |

mod abi;
mod hooks;
mod hosts;
mod metrics;
mod request;
mod server;

pub(crate) use hosts::{Hosts, KeptHosts, Stat};
pub(crate) use metrics::{Counter, Gauge, Metrics};
pub(crate) use request::Request;
pub(crate) use server::{Callout, Level, Server, log};

/// The bytes of a buffer of Envoy's, for as long as the hook runs.
///
/// # Safety
/// The buffer must be one that Envoy has filled in or passed, and `'a` must not outlive the hook.
unsafe fn bytes<'a>(buffer: abi::EnvoyBuffer) -> &'a [u8] {
    if buffer.ptr.is_null() || buffer.length == 0 {
        return &[];
    }
    // SAFETY: Envoy's buffers point to as many bytes as they say, by the caller's promise for as long.
    unsafe { std::slice::from_raw_parts(buffer.ptr, buffer.length) }
}
