//! The allocation, returned to the caller in response headers.

use proxy_wasm::traits::HttpContext;

use super::service::{Placement, Routed, Service};

/// The headers for the caller, with `explain`.
pub(super) struct Explanation {
    reason: &'static str,
    ring: String,
}

impl Explanation {
    /// `None` unless `explain` is set.
    pub(super) fn of(service: &Service, reason: &'static str) -> Option<Self> {
        service.settings.explain.then(|| Self {
            reason,
            ring: service.routed().ring().to_owned(),
        })
    }

    /// Adds the instance that answered and the reason that the request went there. If no instance
    /// answered, there is no instance header. If the filter placed the request but Envoy tried no
    /// instance, there is no reason either.
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
            // The filter left the request to Envoy.
            (None, _) => Some(self.reason),
            (Some(_), None) => None,
            (Some(placement), Some(address)) => Some(match placement.place_of(address) {
                // Envoy did not use the filter's header.
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

/// The end of a request: the last instance that Envoy tried, and whether that instance answered.
pub(super) struct End {
    /// The address of the instance that Envoy tried last.
    address: Option<String>,
    /// Whether the instance itself answered, and not Envoy.
    is_its_own: bool,
}

impl End {
    /// The end of the current request; asks Envoy two questions.
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
