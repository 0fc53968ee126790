//! The filter: chooses the instance of each request inside Envoy, and counts what each instance
//! carries.
//!
//! It is the balancer (`unitring_balancer`) in a shell of proxy-wasm. What the balancer decides,
//! `filter` carries out: it is the only code that calls `proxy_wasm`, and it decides nothing.

#[cfg(target_arch = "wasm32")]
mod filter;
