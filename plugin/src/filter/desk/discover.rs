//! Questions to Envoy's admin interface or to the companion, one after the other.

use std::rc::Rc;
use std::time::Duration;

use unitring_routing::membership::Member;

use super::Desk;
use crate::filter::callout::{Answer, Callout, Outgoing, answer};
use unitring_balancer::discovery::look::{Ask, Found, Look, Reply};
use unitring_balancer::discovery::routes::Routes;
use unitring_balancer::discovery::runtime::InForce;
use unitring_balancer::discovery::{DiscoveryError, page, paths, registry, routes};
use unitring_balancer::settings::{Settings, Source};
use unitring_balancer::tally::Made;
use unitring_balancer::wiring::{self, Kind, Mistake};

/// How long Envoy's own admin interface may take to answer.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two looks at the routes.
const ROUTES_MS: u64 = 30_000;
/// A longer answer about routes is not read.
const ROUTES_BYTES_MAX: usize = 4 << 20;
/// Failed looks in a row that count as a mistake in the wiring. Fewer may mean that Envoy is about
/// to receive the cluster.
const FAILURES_MAX: u32 = 3;

/// The state of discovery, and its findings.
pub(super) struct Discovery {
    pub(super) callout: Callout,
    asked: Asked,
    asked_ms: u64,
    pub(super) look: Look,
    /// What of the runtime the other VMs know to be in force.
    pub(super) in_force: InForce,
    /// When the page of this look was made.
    pub(super) page_made: Made,
    pub(super) found: Found,
    /// Whether members were found yet.
    pub(super) has_found: bool,
    /// The gauges at the time that the page was asked for.
    pub(super) gauges: Vec<(String, u64)>,
    /// The routes that lead or may lead to the service's cluster, once known.
    pub(super) routes: Option<Routes>,
    new_routes: Routes,
    routes_ms: Option<u64>,
    failed_in_row: u32,
}

/// The question whose answer is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Look(Ask),
    /// Routes that came by RDS, or the others.
    Routes {
        via_api: bool,
    },
    Registry,
    /// Whether the server that has no cluster of the service's name is this Envoy.
    Whose,
}

impl Discovery {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            callout: Callout::every(settings.discovery.interval),
            asked: Asked::Registry,
            asked_ms: 0,
            look: Look::new(settings.ejection.is_some()),
            in_force: InForce::default(),
            page_made: Made::default(),
            found: Found::default(),
            has_found: false,
            gauges: Vec::new(),
            routes: None,
            new_routes: Routes::default(),
            routes_ms: None,
            failed_in_row: 0,
        }
    }
}

impl Desk {
    pub(super) fn discover(&mut self, now_ms: u64) {
        let service = Rc::clone(&self.service);
        if let Source::Static(members) = &service.settings.discovery.source {
            // Only once: new settings may have other members than the old ones published.
            if !self.discovery.has_found {
                self.judge_listed(members, now_ms);
            }
            return;
        }
        if !self.discovery.callout.is_due(now_ms) {
            return;
        }
        match service.settings.discovery.source {
            Source::Admin { .. } => {
                self.discovery.gauges = service.gauges();
                self.discovery.page_made.asked_ms = now_ms;
                // Those of another configuration may eject by the failures that this VM counts.
                let ejects = service.settings.ejection.is_some() || self.others.exist();
                self.discovery.look.ejects(ejects);
                self.ask(Asked::Look(Ask::Page), now_ms);
            }
            _ => self.ask(Asked::Registry, now_ms),
        }
    }

    fn ask(&mut self, asked: Asked, now_ms: u64) {
        let service = Rc::clone(&self.service);
        let name = service.settings.service.as_str();
        let companion = service.settings.companion.as_ref();
        let path = match asked {
            Asked::Look(ask) => self.discovery.look.path(name, ask),
            Asked::Routes { via_api } => paths::routes(via_api).to_owned(),
            Asked::Registry => paths::registry(name),
            Asked::Whose => paths::clusters(service.settings.discovery.cluster()),
        };
        let outgoing = match (&service.settings.discovery.source, companion) {
            (Source::Admin { cluster }, _) => Outgoing::get(cluster, path, "", ADMIN_TIMEOUT),
            (_, Some(companion)) => Outgoing::get(
                &companion.cluster,
                path,
                &companion.token,
                companion.timeout,
            ),
            // Settings refuse this source without a companion.
            (_, None) => return,
        };
        self.discovery.asked = asked;
        self.discovery.asked_ms = now_ms;
        if let Err(error) = self.discovery.callout.send(&outgoing, now_ms) {
            // Envoy says at once that it has no such cluster.
            self.discovery.failed_in_row = FAILURES_MAX;
            self.discovery_failed(&error);
        }
    }

    pub(super) fn on_discovered(&mut self, body_size: usize, now_ms: u64) {
        let next = match self.discovery.asked {
            Asked::Registry => {
                self.on_registry(answer(body_size), now_ms);
                None
            }
            Asked::Look(Ask::Page) => self.on_page(answer(body_size), now_ms),
            Asked::Look(ask) => self.on_look(ask, body_size, now_ms),
            Asked::Whose => {
                self.on_whose(answer(body_size));
                None
            }
            Asked::Routes { via_api } => self.on_routes(via_api, body_size, now_ms),
        };
        if let Some(next) = next {
            self.ask(next, now_ms);
        }
    }

    /// Takes the answer to any question of a look but the first.
    #[inline(never)]
    fn on_look(&mut self, ask: Ask, body_size: usize, now_ms: u64) -> Option<Asked> {
        let service = Rc::clone(&self.service);
        let name = service.settings.service.as_str();
        let answer = Answer::received(body_size);
        let reply = Reply::new(&answer.status, &answer.body);
        let times = (self.discovery.asked_ms, now_ms);
        match self.discovery.look.take(name, ask, reply, times) {
            Ok(Some(next)) => return Some(Asked::Look(next)),
            Ok(None) => {}
            Err(error) => log::debug!("unitring: {name}: {ask:?}: {error}, {}", answer.shown()),
        }
        self.look_is_over(now_ms)
    }

    fn on_page(&mut self, body: Result<Vec<u8>, String>, now_ms: u64) -> Option<Asked> {
        let service = Rc::clone(&self.service);
        let name = service.settings.service.as_str();
        let read = match body {
            Ok(body) => {
                self.discovery.page_made.came_ms = now_ms;
                self.discovery.look.on_page(name, &body, now_ms)
            }
            Err(error) => {
                self.discovery_failed(&error);
                return None;
            }
        };
        match read {
            Ok(Some(ask)) => Some(Asked::Look(ask)),
            Ok(None) => self.look_is_over(now_ms),
            Err(DiscoveryError::NoCluster(_)) => Some(Asked::Whose),
            Err(error) => {
                self.discovery_failed(&error.to_string());
                None
            }
        }
    }

    /// An Envoy whose admin interface it is has the cluster that leads there. Another Envoy, or a server that answers to
    /// everything, has neither that nor the service.
    fn on_whose(&mut self, body: Result<Vec<u8>, String>) {
        let service = Rc::clone(&self.service);
        let (name, cluster) = (
            service.settings.service.as_str(),
            service.settings.discovery.cluster(),
        );
        let page =
            body.and_then(|body| page::read(cluster, &body).map_err(|error| error.to_string()));
        if page.is_ok() {
            return self.service_is_missing(&format!("Envoy has no cluster named {name}"));
        }
        self.discovery_failed(&format!(
            "what answers knows neither {name} nor {cluster}: it is not this Envoy's admin interface"
        ));
    }

    /// Uses what the look found, and returns the next question.
    fn look_is_over(&mut self, now_ms: u64) -> Option<Asked> {
        if self.discovery.look.waits() {
            // Until then all is left to Envoy, or placed as other VMs found.
            self.discovery_failed("the admin interface does not answer /config_dump");
            return None;
        }
        let in_force = self.discovery.look.in_force();
        if in_force != self.discovery.in_force {
            self.runtime.publish(&in_force);
            self.discovery.in_force = in_force;
        }
        let identity = self.service.settings.ring.identity;
        self.discovery.found = self.discovery.look.found(identity);
        self.discovery.has_found = true;
        self.discovery_done();
        self.check_cluster();
        self.check_hidden_statuses();
        self.tell_contradictions();
        self.count();
        let members = std::mem::take(&mut self.discovery.found.members);
        self.judge(&members, now_ms);
        self.discovery.found.members = members;
        self.correct_gauges();
        self.next_routes(now_ms)
    }

    fn check_hidden_statuses(&mut self) {
        let discovery = &self.discovery;
        let hidden = discovery.found.hidden_statuses;
        let may_be_routed_to = match &discovery.routes {
            Some(routes) => routes.may_lead_here(),
            // Before they were asked for it is not known; if Envoy does not show them, they may.
            None => discovery.routes_ms.is_some(),
        };
        let mistake = wiring::check_statuses(&self.service.settings, hidden, may_be_routed_to);
        self.wiring.set(Kind::Statuses, mistake);
    }

    fn next_routes(&mut self, now_ms: u64) -> Option<Asked> {
        let last = self.discovery.routes_ms;
        let is_due = last.is_none_or(|at| now_ms.saturating_sub(at) >= ROUTES_MS || now_ms < at);
        let knows_config = self.discovery.found.cluster.is_some();
        (is_due && knows_config).then_some(Asked::Routes { via_api: false })
    }

    fn on_routes(&mut self, via_api: bool, body_size: usize, now_ms: u64) -> Option<Asked> {
        let service = Rc::clone(&self.service);
        let name = service.settings.service.as_str();
        let read = if body_size > ROUTES_BYTES_MAX {
            None
        } else {
            let body = answer(body_size).ok();
            body.and_then(|body| routes::read(name, &body).ok())
        };
        self.discovery.routes_ms = Some(now_ms);
        let Some(read) = read else {
            self.discovery.routes = None;
            return None;
        };
        if !via_api {
            self.discovery.new_routes = read;
            return Some(Asked::Routes { via_api: true });
        }
        let mut all = std::mem::take(&mut self.discovery.new_routes);
        all.append(read);
        self.check_routes(&all);
        self.discovery.routes = Some(all);
        None
    }

    fn on_registry(&mut self, body: Result<Vec<u8>, String>, now_ms: u64) {
        let read = body.and_then(|body| registry::read(&body).map_err(|error| error.to_string()));
        match read {
            Ok(members) => {
                self.discovery_done();
                self.judge_listed(&members, now_ms);
            }
            Err(error) => self.discovery_failed(&error),
        }
    }

    /// Judges members of a list, which comes without Envoy's health and counts.
    pub(super) fn judge_listed(&mut self, members: &[Member], now_ms: u64) {
        self.judge(members, now_ms);
        self.discovery.found.members = members.to_vec();
        self.discovery.has_found = true;
    }

    fn discovery_done(&mut self) {
        self.service.stats.discovery_done.add(1);
        self.discovery.callout.log_outcome("discovery", Ok(()));
        self.discovery.failed_in_row = 0;
        self.wiring.set(Kind::DiscoveryCluster, None);
        self.wiring.set(Kind::Service, None);
    }

    fn service_is_missing(&mut self, error: &str) {
        if self.has_failed_often(error) {
            let mend = "service: the name of a cluster, as Envoy's /clusters lists them";
            self.wiring.set(Kind::DiscoveryCluster, None);
            self.wiring
                .set(Kind::Service, Some(Mistake::new(error, mend)));
        }
    }

    pub(super) fn discovery_failed(&mut self, error: &str) {
        if !self.has_failed_often(error) {
            return;
        }
        let settings = &self.service.settings;
        let Source::Admin { cluster } = &settings.discovery.source else {
            return;
        };
        let mend = format!(
            "discovery.cluster ({cluster}): a cluster whose endpoint is the address of this Envoy's admin interface"
        );
        self.wiring.set(Kind::Service, None);
        self.wiring
            .set(Kind::DiscoveryCluster, Some(Mistake::new(error, mend)));
    }

    /// Counts a failed look, and returns whether it is time to log it.
    fn has_failed_often(&mut self, error: &str) -> bool {
        self.service.stats.discovery_failed.add(1);
        self.discovery.callout.log_outcome("discovery", Err(error));
        self.discovery.failed_in_row = self.discovery.failed_in_row.saturating_add(1);
        self.discovery.failed_in_row >= FAILURES_MAX
    }
}
