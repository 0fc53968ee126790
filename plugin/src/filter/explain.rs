//! The allocation, returned to the caller in response headers.

use proxy_wasm::traits::HttpContext;

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

    /// Tells which instance answered, and why the request went there. Where none answered, none is told; and
    /// no reason where none was even tried, unless that is the reason.
    pub(super) fn tell(
        &self,
        stream: &dyn HttpContext,
        routed: &Routed,
        placement: Option<&Placement>,
        end: &End,
    ) {
        stream.set_http_response_header("x-unitring-ring", Some(&self.ring));
        if let Some(address) = end.answered() {
            let instance = routed.at(address).map_or(address, |(id, _)| id);
            stream.set_http_response_header("x-unitring-instance", Some(instance));
        }
        let tried = end.address.as_deref();
        let reason = match (placement, tried) {
            // Left to Envoy.
            (None, _) => Some(self.reason),
            (Some(_), None) => None,
            (Some(placement), Some(address)) => Some(match placement.place_of(address) {
                // The header was not used.
                None => "fallback",
                Some(0) => self.reason,
                Some(_) => "retry",
            }),
        };
        if let Some(reason) = reason {
            stream.set_http_response_header("x-unitring-reason", Some(reason));
        }
    }
}

/// Where a request ended.
pub(super) struct End {
    /// The address of the instance that was tried last.
    address: Option<String>,
    /// Whether the answer is its own, and not Envoy's.
    is_its_own: bool,
}

impl End {
    /// Of the request at hand; two questions to Envoy.
    pub(super) fn now() -> Self {
        let address = super::text(&["upstream", "address"]).filter(|at| !at.is_empty());
        let details = address
            .as_ref()
            .map(|_| super::text(&["response", "code_details"]));
        Self {
            address,
            is_its_own: details
                .flatten()
                .is_some_and(|details| details == "via_upstream"),
        }
    }

    /// The address of the instance that answered.
    pub(super) fn answered(&self) -> Option<&str> {
        self.address.as_deref().filter(|_| self.is_its_own)
    }
}
