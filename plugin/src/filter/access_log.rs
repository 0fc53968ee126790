//! The choice, for Envoy's access log: filter state of the request, which the log shows and callers do not get.

use super::service::Service;

/// As Envoy's access log shows what is not there.
const NONE: &str = "-";

/// Tells Envoy why a request goes where it goes, with `access_log`: by which ring, and to which of these
/// instances first. All three are set each time, since another filter may have set them before.
pub(super) fn tell(service: &Service, reason: &str, candidates: Option<&str>) {
    if !service.settings.access_log {
        return;
    }
    let first = candidates.and_then(|all| all.split(',').next());
    host::set("unitring_reason", reason);
    host::set("unitring_ring", service.routed().ring());
    host::set("unitring_instance", first.unwrap_or(NONE));
}

/// The SDK panics where Envoy refuses. A request must not fail for its log.
#[allow(unsafe_code, reason = "a call into Envoy that reads memory")]
mod host {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        fn proxy_set_property(
            path: *const u8,
            path_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
    }

    /// Sets a property of the current request, which Envoy keeps as `wasm.<name>`.
    pub(super) fn set(name: &str, value: &str) {
        // SAFETY: Envoy reads these bytes before the call returns.
        let _refused =
            unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    }
}
