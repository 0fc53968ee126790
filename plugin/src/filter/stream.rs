//! One request: its headers in, the choice out; its answer; its end.
//!
//! What is taken at the request headers (one in flight on an instance) is given back when the stream
//! is dropped, which the SDK does once for each, however it ended. In between it moves to the
//! instance that answers, if that is another one: a retry's. Calls and failures are counted when it
//! is known how many attempts there were, each where it ran.

use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};
use unitring_routing::bounded::Reason;

use super::explain::Explanation;
use super::root::Routes;
use super::service::{Placement, Service};
use super::stats::InstanceStats;
use crate::balancer::Fallback;
use crate::outcome::{Answer, Outcome, Status, outcome};
use crate::request;

/// One request.
pub(super) struct Stream {
    routes: Rc<Routes>,
    /// The service that it belongs to, once that is known.
    service: Option<Rc<Service>>,
    placement: Option<Placement>,
    /// The instance that it counts for until it ends.
    taken: Option<Rc<InstanceStats>>,
    /// Whether its attempts were counted.
    counted: bool,
    unsafe_method: bool,
    explanation: Option<Explanation>,
}

impl Stream {
    pub(super) fn new(routes: Rc<Routes>) -> Self {
        Self {
            routes,
            service: None,
            placement: None,
            taken: None,
            counted: false,
            unsafe_method: false,
            explanation: None,
        }
    }

    fn steer(&mut self, service: &Rc<Service>, placement: Placement) -> Action {
        let (stats, reason) = (&service.stats, placement.choice.reason);
        match reason {
            Reason::Overflow => stats.overflow.add(1),
            Reason::LeastLoaded => stats.least_loaded.add(1),
            Reason::Primary | Reason::Ejected => {}
            Reason::Full => {
                stats.full.add(1);
                self.explanation = Explanation::of(service, reason.as_str());
                let body = b"every instance is at load.max_in_flight\n";
                self.send_http_response(503, vec![("retry-after", "1")], Some(body));
                return Action::Pause;
            }
        }
        // It is absent, a client's own was removed: so it need not be looked for.
        service.with_header(&placement.choice, |value| {
            self.add_http_request_header(&service.settings.steer.header, value);
        });
        let first = placement.choice.candidates.first();
        self.taken = placement.routed.host(first).cloned();
        stats.in_flight.raise(service.sides.get());
        self.explanation = Explanation::of(service, reason.as_str());
        self.placement = Some(placement);
        Action::Continue
    }

    fn leave_to_envoy(&mut self, service: &Service, fallback: Fallback) {
        match fallback {
            Fallback::NoKey => service.stats.fallback_no_key.add(1),
            Fallback::NoRing => service.stats.fallback_no_ring.add(1),
        }
        self.explanation = Explanation::of(service, "fallback");
    }

    /// Counts the attempts, each where it ran, by the answer if there is one.
    fn count(&mut self, answer: Option<&Answer>) {
        let Some(service) = self.service.clone() else {
            return;
        };
        self.counted = true;
        let status = answer.map(|answer| answer.status);
        // An Envoy that does not tell made at least one attempt.
        let attempts = answer
            .and_then(|answer| answer.attempts)
            .or_else(|| number(&["upstream", "request_attempt_count"]))
            .unwrap_or(1);
        if attempts == 0 {
            return;
        }
        let final_one = self.attempted(&service, attempts);
        if let Some(explanation) = self.explanation.as_mut().filter(|_| attempts > 1) {
            explanation.retried();
        }
        service.stats.retries.add(attempts - 1);
        let Some(stats) = final_one else {
            return;
        };
        stats.calls.add(1);
        match status.map(|status| outcome(status, || number(&["response", "flags"]).unwrap_or(0))) {
            Some(Outcome::Success) => stats.succeeded(),
            Some(Outcome::Failure) => {
                stats.failed();
                service.stats.failures.add(1);
            }
            Some(Outcome::Neither) | None => {}
        }
        if self.unsafe_method && status.is_some_and(Status::is_success) {
            stats.updates.add(1);
        }
        self.move_to(&service, stats);
    }

    /// Counts the attempts that failed, and returns where the last one ran.
    fn attempted(&self, service: &Service, attempts: u64) -> Option<Rc<InstanceStats>> {
        let Some(placement) = &self.placement else {
            // Envoy's own policy chose; where it went is known only now.
            let address = super::text(&["upstream", "address"])?;
            return service.routed().at(&address).map(|(_, s)| Rc::clone(s));
        };
        let candidates = placement.choice.candidates;
        let nth = |attempt: u64| {
            let candidate = candidates.as_slice().get(usize::try_from(attempt).ok()?)?;
            placement.routed.host(*candidate)
        };
        if attempts == 1 {
            return nth(0).cloned();
        }
        // Envoy tries the candidates in their order.
        for attempt in 0..(attempts - 1).min(8) {
            if let Some(stats) = nth(attempt) {
                stats.calls.add(1);
                stats.failed();
                service.stats.failures.add(1);
            }
        }
        let address = super::text(&["upstream", "address"]);
        let found = address.and_then(|at| placement.routed.at(&at).map(|(_, s)| Rc::clone(s)));
        found.or_else(|| nth(attempts - 1).cloned())
    }

    fn answer(&self) -> Answer {
        let settings = self.service.as_ref().map(|service| &service.settings);
        if settings.is_some_and(|settings| settings.steer.attempts_in_response) {
            return Answer::of(&super::headers(MapType::HttpResponseHeaders));
        }
        // To read one header is cheaper than all of them.
        let status = hostcalls::get_map_value_bytes(MapType::HttpResponseHeaders, ":status");
        Answer {
            status: Status::of(&status.ok().flatten().unwrap_or_default()),
            attempts: None,
        }
    }

    /// Counts the request in flight where it is now.
    fn move_to(&mut self, service: &Service, stats: Rc<InstanceStats>) {
        let sides = service.sides.get();
        match &self.taken {
            Some(taken) if Rc::ptr_eq(taken, &stats) => return,
            Some(taken) => taken.in_flight.lower(sides),
            None => service.stats.in_flight.raise(sides),
        }
        stats.in_flight.raise(sides);
        self.taken = Some(stats);
    }
}

#[cfg(feature = "trap")]
impl Stream {
    /// Kills this VM, as a bug would, at the moment that a test asks for.
    fn trap_if_asked(&self, moment: &str) {
        if self.get_http_request_header("x-trap").as_deref() == Some(moment) {
            std::process::abort();
        }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let headers = super::headers(MapType::HttpRequestHeaders);
        let service = self.routes.service();
        let (steer, key) = service.as_ref().map_or(("", [].as_slice()), |service| {
            let settings = &service.settings;
            (settings.steer.header.as_str(), settings.key.as_slice())
        });
        let source_ip = || {
            let address = super::text(&["source", "address"])?;
            request::without_port(&address).map(str::to_owned)
        };
        let seen = request::read(&headers, steer, key, source_ip);
        for name in &seen.forged {
            self.remove_http_request_header(name);
        }
        #[cfg(feature = "trap")]
        self.trap_if_asked("before");
        let Some(service) = service else {
            return Action::Continue;
        };
        let forged = u64::try_from(seen.forged.len()).unwrap_or(u64::MAX);
        service.stats.forged_headers.add(forged);
        self.service = Some(Rc::clone(&service));
        self.unsafe_method = seen.is_unsafe;
        let action = match service.place(seen.hash) {
            Ok(placement) => self.steer(&service, placement),
            Err(fallback) => {
                self.leave_to_envoy(&service, fallback);
                Action::Continue
            }
        };
        #[cfg(feature = "trap")]
        self.trap_if_asked("taken");
        action
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        if !self.counted {
            let answer = self.answer();
            if !answer.status.is_interim() {
                self.count(Some(&answer));
            }
        }
        if let (Some(service), Some(explanation)) = (&self.service, &self.explanation) {
            explanation.tell(self, &service.routed());
        }
        Action::Continue
    }
}

/// The end of a request, which Envoy tells the SDK once for each, however it ended. `on_log` would be
/// one more call into the VM.
impl Drop for Stream {
    fn drop(&mut self) {
        if !self.counted && self.placement.is_some() {
            self.count(None);
        }
        if let (Some(service), Some(taken)) = (&self.service, self.taken.take()) {
            taken.in_flight.lower(service.sides.get());
            service.stats.in_flight.lower(service.sides.get());
        }
    }
}

/// A number that Envoy knows of this request, as it hands numbers over.
fn number(path: &[&str]) -> Option<u64> {
    let bytes = super::property(path)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
