//! The allocation, returned to the caller in response headers.

use proxy_wasm::traits::HttpContext;

use super::service::{Routed, Service};

/// What the caller is told, with `explain`.
pub(super) struct Explanation {
    reason: &'static str,
    ring: String,
}

impl Explanation {
    /// `None` unless the settings say that callers are told.
    pub(super) fn of(service: &Service, reason: &'static str) -> Option<Self> {
        service.settings.explain.then(|| Self {
            reason,
            ring: service.table().version(),
        })
    }

    /// The first candidate failed, and the request went on.
    pub(super) fn retried(&mut self) {
        self.reason = "retry";
    }

    /// Tells where the request really went; no instance if Envoy answered before any was asked.
    pub(super) fn tell(&self, stream: &dyn HttpContext, routed: &Routed) {
        if let Some(address) = super::text(&["upstream", "address"]).filter(|at| !at.is_empty()) {
            let instance = routed.at(&address).map_or(address.as_str(), |(id, _)| id);
            stream.set_http_response_header("x-unitring-instance", Some(instance));
        }
        stream.set_http_response_header("x-unitring-reason", Some(self.reason));
        stream.set_http_response_header("x-unitring-ring", Some(&self.ring));
    }
}
