//! One look at Envoy: which question comes next, and what all answers amount to.
//!
//! Each look begins with the page of `/clusters`. Two questions to `/config_dump` follow if the
//! page shows other hosts than last time, and otherwise every [`CONFIG_MS`], since some of what
//! they tell changes without a sign on the page. The runtime is asked for then, and whenever a host
//! or its health changed, which is when Envoy itself reads it. Stats are asked for where only they tell
//! whether a host fails. If Envoy does not answer them (they may be
//! forbidden), the filter assumes Envoy's defaults, and leaves a service that depends on the
//! missing answer to Envoy.

use unitring_protocol::ids::InstanceId;
use unitring_routing::hash::xxh64_chain;
use unitring_routing::membership::{Identity, Locality, Member, State};
use unitring_routing::names::Names;

use super::cluster::Cluster;
use super::endpoints::{Endpoints, Index};
use super::page::{HostCounts, Page};
use super::runtime::{InForce, Runtime};
use super::statuses::{self, Readings, Statuses};
use super::{DiscoveryError, cluster, endpoints, page, paths, runtime};

/// Time after which the configuration is asked for again, whatever the page shows.
pub const CONFIG_MS: u64 = 10_000;

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
    /// Whether the runtime, which Envoy does not show, may say anything.
    RuntimeLayers,
    /// The statuses of the cluster's answers.
    Statuses,
}

/// What Envoy says of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Its instances as Envoy judges them, before the filter's own ejection and slow start.
    pub members: Vec<Member>,
    /// Envoy's counts by id, each id once.
    pub counts: Vec<(String, HostCounts)>,
    /// Its cluster's policy; `None` if Envoy does not show it.
    pub cluster: Option<Cluster>,
    /// The overprovisioning factor of its endpoints' policy.
    pub overprovisioning_factor: Option<u32>,
    /// Whether its localities are known, or it has only one.
    pub knows_localities: bool,
    /// Whether an instance has a hash key, by which Envoy places it.
    pub has_hash_keys: bool,
    /// What Envoy's runtime says in place of the cluster's configuration.
    pub runtime: Runtime,
    /// Whether it may say something that Envoy does not show.
    pub hides_runtime: bool,
    /// The statuses of the answers at least since the last page; `None` if they do not matter, or are
    /// not known.
    pub statuses: Option<Statuses>,
}

/// The state of the looks at one service.
#[derive(Debug, Default)]
pub struct Look {
    /// Whether the findings are used to eject hosts.
    ejects: bool,
    page: Option<Page>,
    endpoints: Option<Endpoints>,
    cluster: Option<Cluster>,
    /// Hash of the hosts that the last page showed.
    known: Option<u64>,
    configured_ms: Option<u64>,
    in_force: InForce,
    readings: Readings,
    /// Whether the verdict on a host depends on statuses, and they have not been asked for yet.
    wants_statuses: bool,
}

impl Look {
    /// No look yet; `ejects` says whether hosts are ejected by the findings, which needs statuses.
    pub fn new(ejects: bool) -> Self {
        Self {
            ejects,
            ..Self::default()
        }
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
        let is_due = self
            .configured_ms
            .is_none_or(|at| now_ms.saturating_sub(at) >= CONFIG_MS || now_ms < at);
        let is_new = is_due || hosts != self.known;
        self.known = hosts;
        self.in_force.see_states(states(&page));
        self.readings.begin_look();
        // The first page has nothing before it: its statuses are what later ones are compared with.
        let before = self.page.as_ref();
        self.wants_statuses =
            self.ejects && before.is_none_or(|before| statuses::decide(before, &page));
        self.page = Some(page);
        Ok(match is_new {
            true => Some(Ask::Endpoints),
            false if self.in_force.is_due() => Some(Ask::Runtime),
            false => self.last_question(),
        })
    }

    /// Takes the endpoints; `None` if Envoy does not show them.
    ///
    /// # Errors
    /// If the answer is unusable; the endpoints then count as unknown.
    pub fn on_endpoints(&mut self, body: Option<&[u8]>) -> Result<Option<Ask>, DiscoveryError> {
        let before = self.endpoints.take();
        let read = body.map_or(Ok(None), endpoints::read);
        self.endpoints = read?;
        if before.is_some() && self.endpoints != before {
            self.in_force.renew();
        }
        Ok(Some(Ask::Cluster))
    }

    /// Takes the cluster's policy; `None` if Envoy does not show it.
    ///
    /// # Errors
    /// If the answer is unusable; the policy then counts as unknown.
    pub fn on_cluster(
        &mut self,
        body: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<Option<Ask>, DiscoveryError> {
        self.configured_ms = Some(now_ms);
        let before = self.cluster.take();
        self.cluster = body.map_or(Ok(None), cluster::read)?;
        if before.is_some() && self.cluster != before {
            self.in_force.renew();
        }
        Ok(Some(Ask::Runtime))
    }

    /// Takes the runtime; `None` if Envoy does not show it.
    ///
    /// # Errors
    /// If the answer is unusable; what was known of the runtime stays in force.
    pub fn on_runtime(&mut self, body: Option<&[u8]>) -> Result<Option<Ask>, DiscoveryError> {
        let Some(body) = body else {
            return Ok(Some(Ask::RuntimeLayers));
        };
        self.in_force.take(runtime::read(body)?);
        Ok(self.last_question())
    }

    /// Takes the layers of a runtime that Envoy does not show; `None` if it does not show them,
    /// either.
    ///
    /// # Errors
    /// If the answer is unusable; the runtime then counts as empty.
    pub fn on_runtime_layers(
        &mut self,
        body: Option<&[u8]>,
    ) -> Result<Option<Ask>, DiscoveryError> {
        let read = body.map_or(Ok(false), runtime::may_say_something);
        self.in_force.is_refused(*read.as_ref().unwrap_or(&false));
        read.map(|_| self.last_question())
    }

    /// The question about statuses, if that is due. Where one of the answers before it is unusable, the
    /// look ends without it.
    fn last_question(&mut self) -> Option<Ask> {
        std::mem::take(&mut self.wants_statuses).then_some(Ask::Statuses)
    }

    /// Takes the statuses; `None` if Envoy does not show its stats.
    ///
    /// # Errors
    /// If the answer is unusable; the statuses then count as unknown.
    pub fn on_statuses(
        &mut self,
        service: &str,
        body: Option<&[u8]>,
    ) -> Result<(), DiscoveryError> {
        let name = self.stat_name(service);
        let read = body.map(|body| statuses::read(&name, body)).transpose();
        self.readings.take(*read.as_ref().unwrap_or(&None));
        read.map(drop)
    }

    /// The cluster's name in Envoy's stats, which have no colons (`Stats::Utility::sanitizeStatsName`).
    fn stat_name(&self, service: &str) -> String {
        let cluster = self.cluster.as_ref();
        let name = cluster.and_then(|cluster| cluster.stat_name.as_deref());
        let name = name.unwrap_or(service);
        let name = name.replace("://", "_").replace(":/", "_");
        name.replace([':', '\0'], "_")
    }

    /// What of the runtime is in force.
    pub fn in_force(&self) -> InForce {
        self.in_force
    }

    /// Goes on with what another VM knows of the runtime.
    pub fn go_on_with(&mut self, in_force: InForce) {
        self.in_force = in_force;
    }

    /// Makes the next look ask for the configuration again.
    pub fn forget_config(&mut self) {
        self.configured_ms = None;
    }

    /// The findings of all answers, with instances identified by `identity`; `None` follows Envoy's
    /// configuration.
    pub fn found(&self, identity: Option<Identity>) -> Found {
        let Some(page) = &self.page else {
            return Found::default();
        };
        let hashing = self
            .cluster
            .as_ref()
            .map(|cluster| cluster.policy.fallback.hashing());
        let hashing = hashing.unwrap_or_default();
        let mut index = self.endpoints.as_ref().map(Index::new);
        let mut members = Vec::with_capacity(page.hosts.len());
        let mut has_hash_keys = false;
        for host in &page.hosts {
            let place = index
                .as_ref()
                .and_then(|index| index.place(host.priority, &host.locality));
            let key = place.and_then(|at| index.as_mut()?.next_key(at, &host.address));
            has_hash_keys |= key.is_some();
            let by_hostname = hashing.by_hostname.then_some(host.hostname.as_str());
            let weight = place.and_then(|at| index.as_ref()?.weight(at));
            let locality = weight
                .filter(|_| hashing.by_locality)
                .and_then(|(weight, all)| {
                    let index = u32::try_from(place?).ok()?;
                    Some(Locality { index, weight, all })
                });
            let named =
                identity == Some(Identity::Id) && host.hostname.parse::<InstanceId>().is_ok();
            let id = if named { &host.hostname } else { &host.address };
            members.push(Member {
                hash_key: match identity {
                    None => key.or(by_hostname).map(str::to_owned),
                    Some(_) => None,
                },
                weight: host.weight,
                state: host.state,
                excluded: host.excluded,
                priority: host.priority,
                locality,
                steerable: host.is_steerable(),
                ..Member::new(id, &host.address)
            });
        }
        without_shared_ids(&mut members);
        Found {
            counts: counts(page, &members),
            members,
            cluster: self.cluster.clone(),
            overprovisioning_factor: self
                .endpoints
                .as_ref()
                .and_then(|endpoints| endpoints.overprovisioning_factor),
            knows_localities: self.endpoints.is_some() || !has_several_localities(page),
            has_hash_keys,
            runtime: self.in_force.runtime(),
            hides_runtime: self.in_force.is_hidden(),
            statuses: self.readings.growth(),
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

/// A hash over what makes Envoy compute a cluster's load anew, as far as a page shows it. It does not
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

/// A hostname that several addresses share, as those of one DNS name do, is no id: those members
/// get their address as id.
fn without_shared_ids(members: &mut [Member]) {
    let ids = Names::of(members.iter().map(|member| member.id.as_str()));
    let is_shared = |member: &Member| {
        let mut places = ids.places(&member.id).filter_map(|at| members.get(at));
        places.any(|other| other.address != member.address)
    };
    let shared: Vec<bool> = members.iter().map(is_shared).collect();
    for (member, is_shared) in members.iter_mut().zip(shared) {
        if is_shared {
            member.id.clone_from(&member.address);
        }
    }
}

fn counts(page: &Page, members: &[Member]) -> Vec<(String, HostCounts)> {
    let ids = Names::of(members.iter().map(|member| member.id.as_str()));
    let count = |at: usize| page.hosts.get(at).map(|host| host.counts);
    ids.each()
        .map(|(id, _)| {
            let all = ids.places(id).filter_map(count);
            (
                id.to_owned(),
                all.fold(HostCounts::default(), HostCounts::plus),
            )
        })
        .collect()
}

fn has_several_localities(page: &Page) -> bool {
    let names = page.hosts.iter().map(|host| host.locality.as_str());
    Names::of(names).each().count() > 1
}
