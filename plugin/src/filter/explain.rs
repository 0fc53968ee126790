//! The allocation, returned to the caller in response headers.

use proxy_wasm::traits::HttpContext;
use unitring_routing::bounded::Reason;

use super::service::{Placement, Routed, Service};

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

    /// Tells where the request really went, `address`, and why there. Where no instance answered, no
    /// instance is told, and no reason, unless it is that all are full.
    pub(super) fn tell(
        &self,
        stream: &dyn HttpContext,
        routed: &Routed,
        placement: Option<&Placement>,
        address: Option<&str>,
    ) {
        stream.set_http_response_header("x-unitring-ring", Some(&self.ring));
        let reason = match address {
            None => Some(self.reason).filter(|reason| *reason == Reason::Full.as_str()),
            Some(address) => {
                let instance = routed.at(address).map_or(address, |(id, _)| id);
                stream.set_http_response_header("x-unitring-instance", Some(instance));
                Some(
                    match placement.map(|placement| placement.place_of(address)) {
                        // Left to Envoy, or the header was not used.
                        None | Some(None) => "fallback",
                        Some(Some(0)) => self.reason,
                        Some(Some(_)) => "retry",
                    },
                )
            }
        };
        if let Some(reason) = reason {
            stream.set_http_response_header("x-unitring-reason", Some(reason));
        }
    }
}

/// The address of the instance that answered; `None` if Envoy answered itself.
pub(super) fn answered_by() -> Option<String> {
    let details = super::text(&["response", "code_details"]);
    if details.is_some_and(|details| details != "via_upstream") {
        return None;
    }
    super::text(&["upstream", "address"]).filter(|at| !at.is_empty())
}
