//! The shell: the only code that calls `proxy_wasm`. It reads from Envoy, asks the pure modules,
//! and carries out what they decide.
//!
//! | module | what it touches in Envoy |
//! |---|---|
//! | [`root`] | configuration, the timer, answers to callouts: one per VM |
//! | [`desk`] | a VM's work for a service outside of requests |
//! | [`vms`] | this VM among those of the process |
//! | [`connections`] | the newest client connection |
//! | [`service`] | the state that a VM's streams share for a service |
//! | [`stream`] | headers of one request and its answer |
//! | [`explain`] | headers of its answer |
//! | [`access_log`] | what Envoy's access log can show of the choice |
//! | [`capture`] | the data updates that its answer announces |
//! | [`hand_over`] | updates on their way to the companion, and the answers that wait for them |
//! | [`trouble`] | what a caller gets in place of an answer |
//! | [`call`], [`exports`] | calls and entry points that the SDK cannot express |
//! | [`clock`], [`quiet`] | the clock of the process; warnings at a bounded rate |
//! | [`stats`] | counters and gauges |
//! | [`shared`] | data shared by the VMs of the process |
//! | [`callout`] | requests to Envoy's admin interface and to the companion |

mod access_log;
mod call;
mod callout;
mod capture;
mod clock;
mod connections;
mod desk;
mod explain;
mod exported;
mod exports;
mod hand_over;
mod quiet;
mod root;
mod service;
mod shared;
mod stats;
mod stream;
mod trouble;
mod vms;

use proxy_wasm::types::MapType;

use unitring_balancer::headers::Headers;

/// An Envoy attribute of the current request or of Envoy itself. Not free: each read walks through
/// Envoy's expression engine.
fn property(path: &[&str]) -> Option<Vec<u8>> {
    proxy_wasm::hostcalls::get_property(path.to_vec())
        .ok()
        .flatten()
}

fn text(path: &[&str]) -> Option<String> {
    property(path).and_then(|bytes| String::from_utf8(bytes).ok())
}

/// A numeric attribute of the current request, which Envoy passes as 8 bytes in little-endian order.
fn number(path: &[&str]) -> Option<u64> {
    let bytes = property(path)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// The headers of the current request, or of its answer.
fn headers(of: MapType) -> Headers {
    Headers::new(host::headers(of))
}

/// The SDK offers this hostcall only with a copy into lists of strings.
#[allow(unsafe_code, reason = "a call into Envoy that hands memory over")]
mod host {
    use proxy_wasm::types::MapType;

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    }

    /// All headers as one block; empty if Envoy has none to give.
    pub(super) fn headers(of: MapType) -> Vec<u8> {
        let (mut data, mut size) = (std::ptr::null_mut(), 0);
        let map = of as u32;
        // SAFETY: Envoy writes both places before the call returns, or leaves them unchanged.
        let status = unsafe { proxy_get_header_map_pairs(map, &mut data, &mut size) };
        if status != 0 || data.is_null() {
            return Vec::new();
        }
        // SAFETY: Envoy got this memory from this VM's own `proxy_on_memory_allocate`, which
        // returns a boxed slice of this size, and Envoy keeps no pointer to it.
        unsafe { Vec::from_raw_parts(data, size, size) }
    }
}

// The entry point that Envoy calls has a fixed name.
#[allow(unsafe_code, reason = "proxy_wasm::main! exports `_initialize`")]
mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
        proxy_wasm::set_root_context(|id| Box::new(super::root::Root::new(id)));
    }}
}
