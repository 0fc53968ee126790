//! The shell: the only code that sees `proxy_wasm`. It reads from Envoy, asks the pure modules, and
//! does what they say.
//!
//! | module | what of Envoy it touches |
//! |---|---|
//! | [`root`] | configuration, the timer, callouts: one per VM |
//! | [`service`] | what the streams of a VM share |
//! | [`stream`] | headers of one request and its answer |
//! | [`stats`] | counters and gauges |
//! | [`shared`] | data shared by the VMs of the process |
//! | [`callout`] | requests to Envoy's admin interface and to the companion |

mod callout;
mod root;
mod service;
mod shared;
mod stats;
mod stream;

// The entry point that Envoy calls has a fixed name.
#[allow(unsafe_code, reason = "proxy_wasm::main! exports `_initialize`")]
mod entry {
    proxy_wasm::main! {{
        proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);
        proxy_wasm::set_root_context(|_| Box::new(super::root::Root::default()));
    }}
}
