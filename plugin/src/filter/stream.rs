//! One request: its headers in, the choice out; its answer; its end.
//!
//! What is taken at the request headers (one in flight on an instance) is given back in `on_log`,
//! which Envoy calls exactly once for each stream, however it ended.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use unitring_routing::bounded::Reason;

use super::service::{Placement, Service};
use super::stats::InstanceStats;
use crate::balancer::Fallback;
use crate::request::Request;

/// One request.
pub(super) struct Stream {
    service: Rc<Service>,
    /// The instance that it counts for until it ends.
    taken: Option<Rc<InstanceStats>>,
    unsafe_method: bool,
    explanation: Option<Explanation>,
}

/// What the caller is told, with `explain`.
struct Explanation {
    /// The first candidate's address.
    chosen: String,
    reason: &'static str,
    ring: String,
}

impl Stream {
    pub(super) fn new(service: Rc<Service>) -> Self {
        Self {
            service,
            taken: None,
            unsafe_method: false,
            explanation: None,
        }
    }

    fn steer(&mut self, placement: Placement) {
        let stats = &self.service.stats;
        match placement.choice.reason {
            Reason::Overflow => stats.overflow.add(1),
            Reason::LeastLoaded => stats.least_loaded.add(1),
            Reason::Primary | Reason::Ejected => {}
        }
        let header = &self.service.settings.steer.header;
        self.set_http_request_header(header, Some(&placement.header));
        placement.stats.calls.add(1);
        placement.stats.in_flight.raise();
        stats.in_flight.raise();
        self.explanation = placement.ring.map(|ring| Explanation {
            chosen: placement
                .header
                .split(',')
                .next()
                .unwrap_or_default()
                .to_owned(),
            reason: placement.choice.reason.as_str(),
            ring,
        });
        self.taken = Some(placement.stats);
    }

    fn leave_to_envoy(&mut self, fallback: Fallback) {
        match fallback {
            Fallback::NoKey => self.service.stats.fallback_no_key.add(1),
            Fallback::NoRing => self.service.stats.fallback_no_ring.add(1),
        }
        self.explanation = self.service.settings.explain.then(|| Explanation {
            chosen: String::new(),
            reason: "fallback",
            ring: self.service.table().version(),
        });
    }

    /// Returns the allocation to the caller: where the request really went, a retry included.
    fn explain(&self, explanation: &Explanation) {
        let upstream = self.get_property(vec!["upstream", "address"]);
        let upstream = upstream
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .unwrap_or_default();
        // No address: Envoy itself answered, before any instance was asked.
        let ended_at = if upstream.is_empty() {
            &explanation.chosen
        } else {
            &upstream
        };
        let moved_on = !explanation.chosen.is_empty() && explanation.chosen != *ended_at;
        let reason = if moved_on {
            "retry"
        } else {
            explanation.reason
        };
        let instance = self
            .service
            .instance_at(ended_at)
            .unwrap_or_else(|| ended_at.clone());
        self.set_http_response_header("x-unitring-instance", Some(&instance));
        self.set_http_response_header("x-unitring-reason", Some(reason));
        self.set_http_response_header("x-unitring-ring", Some(&explanation.ring));
    }

    fn answered_2xx(&self) -> bool {
        let status = self.get_http_response_header_bytes(":status");
        status.is_some_and(|status| status.first() == Some(&b'2'))
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let settings = &self.service.settings;
        let headers = self.get_http_request_headers_bytes();
        let request = Request::read(&headers, &settings.key, &settings.steer.header);
        for name in &request.forged {
            self.remove_http_request_header(name);
            self.service.stats.forged_headers.add(1);
        }
        self.unsafe_method = request.unsafe_method;
        match self.service.place(request.hash) {
            Ok(placement) => self.steer(placement),
            Err(fallback) => self.leave_to_envoy(fallback),
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        if let Some(stats) = &self.taken
            && self.unsafe_method
            && self.answered_2xx()
        {
            stats.updates.add(1);
        }
        if let Some(explanation) = &self.explanation {
            self.explain(explanation);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        if let Some(stats) = self.taken.take() {
            stats.in_flight.lower();
            self.service.stats.in_flight.lower();
        }
    }
}
