//! One request: its headers, the choice, its answer and its end.
//!
//! A stream counts as in flight on an instance from its request headers on. Dropping the stream
//! takes that back; the SDK drops each stream once, however it ended.
//!
//! The filter does not look at answers unless a setting needs it: Envoy's counts of each host, if
//! available, are better than what a filter can see. If they are not, the filter charges an attempt
//! to the instance that answered, and the request is in flight there from then on. Where earlier
//! attempts ran is unknown.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, MapType};
use unitring_routing::bounded::Reason;

use super::access_log;
use super::capture::Updates;
use super::explain::{End, Explanation};
use super::root::Routes;
use super::service::{Placement, Service};
use super::stats::InstanceStats;
use unitring_balancer::balancer::Fallback;
use unitring_balancer::outcome::{Answer, Outcome, outcome};
use unitring_balancer::request;

/// One request.
pub(super) struct Stream {
    id: u32,
    routes: Rc<Routes>,
    /// The service of the request, once it is known.
    service: Option<Rc<Service>>,
    placement: Option<Placement>,
    /// The instance that the request counts on until it ends.
    taken: Option<Rc<InstanceStats>>,
    /// Whether its answer was seen.
    answered: bool,
    /// Whether Envoy is asked where the request ran.
    sampled: bool,
    /// The data updates that its answer announces.
    updates: Updates,
    explanation: Option<Explanation>,
}

impl Stream {
    pub(super) fn new(id: u32, routes: Rc<Routes>) -> Self {
        Self {
            id,
            routes,
            service: None,
            placement: None,
            taken: None,
            answered: false,
            sampled: false,
            updates: Updates::default(),
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
                access_log::tell(service, reason.as_str(), None);
                let body = b"every instance is at load.max_in_flight\n";
                self.send_http_response(503, vec![("retry-after", "1")], Some(body));
                return Action::Pause;
            }
        }
        // The filter has removed a client's own header, so adding needs no look-up.
        service.with_header(&placement.choice, |value| {
            self.add_http_request_header(&service.settings.steer.header, value);
            access_log::tell(service, reason.as_str(), Some(value));
        });
        let first = placement.choice.candidates.first();
        self.taken = placement.routed.host(first).cloned();
        stats.in_flight.raise(service.sides.get());
        self.explanation = Explanation::of(service, reason.as_str());
        self.sampled = service.samples_this();
        self.placement = Some(placement);
        Action::Continue
    }

    fn leave_to_envoy(&mut self, service: &Service, fallback: Fallback) {
        let stats = &service.stats;
        let counter = match fallback {
            Fallback::NoKey => &stats.fallback_no_key,
            Fallback::NoRing => &stats.fallback_no_ring,
            Fallback::Unnameable => &stats.fallback_unnameable,
            Fallback::Ambiguous => &stats.fallback_ambiguous,
            Fallback::Left(_) => &stats.fallback_left,
        };
        counter.add(1);
        self.explanation = Explanation::of(service, "fallback");
        access_log::tell(service, fallback.as_str(), None);
    }

    /// Checks whether Envoy used the filter's choice. Only a few requests are sampled, since asking
    /// Envoy is expensive.
    fn sample(&self, service: &Service) {
        let Some(placement) = self.placement.as_ref().filter(|_| self.sampled) else {
            return;
        };
        let address = super::text(&["upstream", "address"]);
        let Some(address) = address.filter(|address| !address.is_empty()) else {
            return;
        };
        service.stats.choice_sampled.add(1);
        let is_used = match placement.place_of(&address) {
            Some(0) => true,
            // A retry goes to the next candidates, a first attempt by Envoy's own choice to any of them.
            Some(_) => {
                super::number(&["upstream", "request_attempt_count"]).is_some_and(|count| count > 1)
            }
            None => false,
        };
        if !is_used {
            service.stats.choice_elsewhere.add(1);
        }
    }

    /// Charges the request's attempts, and the result to the instance of the last one if there is
    /// an answer.
    fn charge(&mut self, service: &Rc<Service>, answer: Option<&Answer>) {
        // If Envoy does not send the number, it made at least one attempt.
        let is_told = service.settings.steer.attempts_in_response;
        let attempts = answer
            .filter(|_| is_told)
            .and_then(|answer| answer.attempts)
            .or_else(|| super::number(&["upstream", "request_attempt_count"]))
            .unwrap_or(1);
        if attempts == 0 {
            return;
        }
        service.stats.retries.add(attempts - 1);
        let Some(stats) = Self::ran_on(service) else {
            return;
        };
        stats.calls.add(1);
        let flags = || super::number(&["response", "flags"]).unwrap_or(0);
        match answer.map(|answer| outcome(answer, flags)) {
            Some(Outcome::Success) => stats.succeeded(),
            Some(Outcome::Failure) => {
                stats.failed();
                service.stats.failures.add(1);
            }
            Some(Outcome::Neither) | None => {}
        }
        self.move_to(service, stats);
    }

    fn ran_on(service: &Service) -> Option<Rc<InstanceStats>> {
        let address = super::text(&["upstream", "address"])?;
        let routed = service.routed();
        routed.at(&address).map(|(_, stats)| Rc::clone(stats))
    }

    /// Counts the request as in flight on another instance.
    fn move_to(&mut self, service: &Service, stats: Rc<InstanceStats>) {
        let sides = service.sides.get();
        match &self.taken {
            Some(taken) if Rc::ptr_eq(taken, &stats) => return,
            Some(taken) => taken.end(sides),
            None => service.stats.in_flight.raise(sides),
        }
        stats.begin(sides);
        self.taken = Some(stats);
    }

    fn on_answer(&mut self, service: &Rc<Service>) {
        if !service.settings.counts_by_envoy() {
            let answer = Answer::of(&super::headers(MapType::HttpResponseHeaders));
            if answer.status.is_interim() {
                return;
            }
            self.charge(service, Some(&answer));
        }
        self.answered = true;
        self.sample(service);
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
        if !seen.redirected {
            let forged = u64::try_from(seen.forged.len()).unwrap_or(u64::MAX);
            service.stats.forged_headers.add(forged);
        }
        service.connections.on_request();
        self.service = Some(Rc::clone(&service));
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

    fn on_http_response_headers(&mut self, _: usize, ends: bool) -> Action {
        let Some(service) = self.service.clone() else {
            Updates::of_no_service();
            return Action::Continue;
        };
        if self.reads_answer() {
            self.read_answer(&service);
        }
        self.updates.on_headers(self.id, &service, ends)
    }

    fn on_http_response_body(&mut self, size: usize, ends: bool) -> Action {
        let service = self.service.as_ref();
        service.map_or(Action::Continue, |service| {
            self.updates.on_body(self.id, service, size, ends)
        })
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        let service = self.service.as_ref();
        service.map_or(Action::Continue, |service| {
            self.updates.on_trailers(self.id, service)
        })
    }
}

impl Stream {
    fn read_answer(&mut self, service: &Rc<Service>) {
        if !self.answered {
            self.on_answer(service);
        }
        if let Some(explanation) = &self.explanation {
            let (end, routed) = (End::now(), service.routed());
            explanation.tell(self, &routed, self.placement.as_ref(), &end);
            // The instance is known now, so the request need not wait for Envoy's next count.
            if let Some((_, stats)) = end.answered().and_then(|address| routed.at(address)) {
                let stats = Rc::clone(stats);
                self.move_to(service, stats);
            }
        }
    }

    fn reads_answer(&self) -> bool {
        let service = self.service.as_ref();
        self.sampled || service.is_some_and(|service| service.settings.reads_answers())
    }
}

/// The end of a request. The SDK drops each stream once, however it ended. `on_log` would be one
/// more call into the VM.
impl Drop for Stream {
    fn drop(&mut self) {
        let Some(service) = self.service.take() else {
            return;
        };
        if !self.answered && self.placement.is_some() && !service.settings.counts_by_envoy() {
            self.charge(&service, None);
        }
        self.updates.on_over(self.id, &service);
        if let Some(taken) = self.taken.take() {
            taken.end(service.sides.get());
            service.stats.in_flight.lower(service.sides.get());
        }
    }
}
