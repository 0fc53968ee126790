//! One look at Envoy: which question comes next, and the findings of all answers.
//!
//! Each look begins with the page of `/clusters`. Two questions to `/config_dump` follow if the
//! page shows other hosts than last time, and otherwise every [`CONFIG_MS`], since some of what
//! they tell changes without a sign on the page. The runtime is asked for then, and whenever a host
//! or its health changed, which is when Envoy itself reads it. Stats are asked for where only they tell
//! whether a host fails. If Envoy refuses to answer them (they may be
//! forbidden), the filter assumes Envoy's defaults, and leaves a service that depends on the
//! missing answer to Envoy. No answer in time is no refusal: what was known stays in force.

use unitring_routing::hash::xxh64_chain;
use unitring_routing::membership::{Identity, State};

pub use super::config::CONFIG_MS;
use super::config::Config;
pub use super::found::Found;
use super::pace::Pace;
use super::page::Page;
pub use super::reply::Reply;
use super::runtime::InForce;
use super::statuses::{self, Readings};
use super::{DiscoveryError, cluster, endpoints, found, page, paths, runtime};

/// The questions to Envoy's admin interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The page of `/clusters`.
    Page,
    /// The cluster's endpoints: localities and hash keys.
    Endpoints,
    /// The cluster's policy.
    Cluster,
    /// The runtime.
    Runtime,
    /// Whether the runtime, which Envoy does not show, may override anything.
    RuntimeLayers,
    /// The statuses of the cluster's answers.
    Statuses,
}

/// The state of the looks at one service.
#[derive(Debug, Default)]
pub struct Look {
    /// Whether the findings are used to eject hosts.
    ejects: bool,
    page: Option<Page>,
    config: Config,
    /// When this look began.
    began_ms: u64,
    /// Hash of the hosts that the last page showed.
    known: Option<u64>,
    in_force: InForce,
    readings: Readings,
    /// The hosts of which the verdict depends on statuses, each with its errors.
    undecided: Vec<(u64, u64)>,
    /// Whether it does of any, and they have not been asked for yet.
    wants_statuses: bool,
    pace: Pace,
    /// Whether the runtime may say something, as the bootstrap says, which never changes.
    may_say_something: Option<bool>,
}

impl Look {
    /// No look yet; `ejects` says whether hosts are ejected by the findings, which needs statuses.
    pub fn new(ejects: bool) -> Self {
        Self {
            ejects,
            ..Self::default()
        }
    }

    /// Says from now on whether hosts are ejected by the findings.
    pub fn ejects(&mut self, ejects: bool) {
        self.ejects = ejects;
    }

    /// The path that asks Envoy a question.
    pub fn path(&self, service: &str, ask: Ask) -> String {
        let page = self.page.as_ref();
        let via_api = page.is_some_and(|page| page.via_api);
        match ask {
            Ask::Page => paths::clusters(service),
            Ask::Endpoints => {
                let name = page.and_then(|page| page.eds_name.as_deref());
                paths::endpoints(name.unwrap_or(service), via_api)
            }
            Ask::Cluster => paths::cluster(service, via_api),
            Ask::Runtime => paths::RUNTIME.to_owned(),
            Ask::RuntimeLayers => paths::RUNTIME_LAYERS.to_owned(),
            Ask::Statuses => paths::statuses(&self.stat_name(service)),
        }
    }

    /// Takes the page, and returns the next question; `None` ends the look.
    ///
    /// # Errors
    /// If the page is unusable. The look is over, and the last findings stay.
    pub fn on_page(
        &mut self,
        service: &str,
        body: &[u8],
        now_ms: u64,
    ) -> Result<Option<Ask>, DiscoveryError> {
        let page = page::read(service, body)?;
        let hosts = Some(which(&page));
        self.began_ms = now_ms;
        let is_new = self.config.is_due(now_ms) || hosts != self.known;
        self.known = hosts;
        self.in_force.see_states(states(&page));
        self.readings.begin_look();
        // The first page has nothing before it: its statuses are what later ones are compared with.
        let before = self.page.as_ref();
        self.undecided = before.map_or_else(Vec::new, |before| statuses::undecided(before, &page));
        let is_due = self.pace.is_due(&self.undecided, now_ms);
        self.wants_statuses = self.ejects && (is_due || before.is_none());
        self.page = Some(page);
        Ok(match is_new {
            true => Some(Ask::Endpoints),
            false if self.in_force.is_due() => Some(Ask::Runtime),
            false => self.last_question(),
        })
    }

    /// Takes the answer to any other question, and returns the next one; `None` ends the look. `times`: when
    /// the question was sent, and now.
    ///
    /// # Errors
    /// If there is no answer, or it is unusable. The look is over; what was known stays in force, and the
    /// next look asks again.
    pub fn take(
        &mut self,
        service: &str,
        ask: Ask,
        reply: Reply<'_>,
        times: (u64, u64),
    ) -> Result<Option<Ask>, DiscoveryError> {
        match ask {
            Ask::Page => Ok(None),
            Ask::Endpoints => self.on_endpoints(reply),
            Ask::Cluster => self.on_cluster(reply),
            Ask::Runtime => self.on_runtime(reply),
            Ask::RuntimeLayers => self.on_runtime_layers(reply),
            Ask::Statuses => self.on_statuses(service, reply, times).map(|()| None),
        }
    }

    fn on_endpoints(&mut self, reply: Reply<'_>) -> Result<Option<Ask>, DiscoveryError> {
        self.config.begin();
        match reply.read(endpoints::read) {
            Ok(read) => {
                if self.config.endpoints.take(read.flatten()) {
                    self.in_force.renew();
                }
            }
            Err(error) if !self.config.has_failed(self.began_ms) => return Err(error),
            Err(_) => {}
        }
        Ok(Some(Ask::Cluster))
    }

    fn on_cluster(&mut self, reply: Reply<'_>) -> Result<Option<Ask>, DiscoveryError> {
        match reply.read(cluster::read) {
            Ok(read) => {
                if self.config.cluster.take(read.flatten()) {
                    self.in_force.renew();
                }
                self.config.is_over(self.began_ms);
            }
            Err(error) if !self.config.has_failed(self.began_ms) => return Err(error),
            Err(_) => {}
        }
        Ok(Some(Ask::Runtime))
    }

    fn on_runtime(&mut self, reply: Reply<'_>) -> Result<Option<Ask>, DiscoveryError> {
        if let Reply::Body(body) = reply
            && body.len() > runtime::BYTES_MAX
        {
            // Envoy does show it, but it may say something that the filter does not read.
            self.in_force.is_unseen(true);
            return Ok(self.last_question());
        }
        match reply.read(runtime::read)? {
            Some(runtime) => self.in_force.take(runtime),
            None => match self.may_say_something {
                Some(may_say_something) => self.in_force.is_unseen(may_say_something),
                None => return Ok(Some(Ask::RuntimeLayers)),
            },
        }
        Ok(self.last_question())
    }

    fn on_runtime_layers(&mut self, reply: Reply<'_>) -> Result<Option<Ask>, DiscoveryError> {
        let may_say_something = reply.read(runtime::may_say_something)?.unwrap_or(false);
        self.may_say_something = Some(may_say_something);
        self.in_force.is_unseen(may_say_something);
        Ok(self.last_question())
    }

    /// The question about statuses, if that is due. Where one of the answers before it is unusable, the
    /// look ends without it.
    fn last_question(&mut self) -> Option<Ask> {
        std::mem::take(&mut self.wants_statuses).then_some(Ask::Statuses)
    }

    fn on_statuses(
        &mut self,
        service: &str,
        reply: Reply<'_>,
        (asked_ms, now_ms): (u64, u64),
    ) -> Result<(), DiscoveryError> {
        let name = self.stat_name(service);
        let read = match reply.read(|body| statuses::read(&name, body)) {
            Err(DiscoveryError::NoAnswer) => Err(DiscoveryError::NoAnswer),
            read => {
                let hosts = self.page.as_ref().map(|page| page.hosts.iter());
                let served = hosts.is_some_and(|mut all| all.any(|host| host.counts.successes > 0));
                self.readings.take(*read.as_ref().unwrap_or(&None), served);
                read.map(drop)
            }
        };
        let answers = self.readings.growth().answers(true);
        let mut errors = self.undecided.iter().map(|(_, errors)| *errors);
        let fails = self.readings.hidden().is_none()
            && answers.is_some_and(|answers| errors.any(|errors| errors > answers));
        let took_ms = now_ms.saturating_sub(asked_ms);
        self.pace.asked(fails, took_ms, now_ms);
        read
    }

    /// The cluster's name in Envoy's stats, which have no colons (`Stats::Utility::sanitizeStatsName`).
    fn stat_name(&self, service: &str) -> String {
        let cluster = self.config.cluster.shown();
        let name = cluster.and_then(|cluster| cluster.stat_name.as_deref());
        let name = name.unwrap_or(service);
        let name = name.replace("://", "_").replace(":/", "_");
        name.replace([':', '\0'], "_")
    }

    /// The runtime values that are in force.
    pub fn in_force(&self) -> InForce {
        self.in_force
    }

    /// Goes on with another VM's knowledge of the runtime.
    pub fn go_on_with(&mut self, in_force: InForce) {
        self.in_force = in_force;
    }

    /// Whether nothing can be said of the service yet: Envoy has not answered what decides where keys go,
    /// and has not refused it, either.
    pub fn waits(&self) -> bool {
        self.config.is_awaited()
    }

    /// The findings of all answers, with instances identified by `identity`; `None` follows Envoy's
    /// configuration.
    pub fn found(&self, identity: Option<Identity>) -> Found {
        let Some(page) = &self.page else {
            return Found::default();
        };
        let (endpoints, cluster) = (self.config.endpoints.shown(), self.config.cluster.shown());
        Found {
            runtime: self.in_force.runtime(),
            hides_runtime: self.in_force.is_hidden(),
            statuses: self.readings.growth(),
            hidden_statuses: self.readings.hidden(),
            ..found::read(page, endpoints, cluster, identity)
        }
    }
}

/// A hash over the hosts of a page and the place of each.
fn which(page: &Page) -> u64 {
    let hosts = page.hosts.iter().flat_map(|host| {
        let priority: &[u8] = if host.priority == 0 { b"" } else { b"+" };
        [priority, host.address.as_bytes(), host.locality.as_bytes()]
    });
    let priorities = page.hosts.iter().map(|host| u64::from(host.priority));
    let sum = priorities.fold(0u64, |sum, priority| {
        sum.rotate_left(1).wrapping_add(priority)
    });
    xxh64_chain(hosts).wrapping_add(sum)
}

/// A hash over the facts that make Envoy recompute a cluster's load, as far as a page shows them. It does not
/// where a host that failed fails for another reason, not even if that excludes the host
/// (`BaseDynamicClusterImpl::updateEdsHealthFlag`, seen on 1.40.0).
fn states(page: &Page) -> u64 {
    let states = page.hosts.iter().map(|host| {
        let state = match host.state {
            State::Serving => "+",
            State::Degraded => "~",
            State::Failed(_) if host.excluded => "?",
            State::Failed(_) | State::Draining => "-",
        };
        format!("{} {} {state}", host.weight, host.hostname)
    });
    let states: Vec<String> = states.collect();
    let states = states.iter().map(|state| state.as_bytes());
    xxh64_chain(states).wrapping_add(which(page))
}
