//! What a VM does for one service beside its requests: it follows the others, and, while it holds
//! the lease, discovers, judges and reports.

use std::rc::Rc;
use std::time::Duration;

use unitring_protocol::ids::ReporterId;
use unitring_routing::membership::{Cause, Change, Member};

use super::callout::{Callout, Outgoing};
use super::service::Service;
use super::shared::{self, Shared};
use super::vms::Vms;
use crate::balancer::Fleet;
use crate::discovery;
use crate::health::{Judge, Memory};
use crate::lease::{Claim, Claimant, Lease};
use crate::reporter::{Happening, Reporter, Warming, percent, read_answer, reporter_id};
use crate::settings::{Settings, Source};
use crate::threshold::Watch;

/// How long Envoy's own admin interface may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(2);

/// One service's work of one VM.
pub(super) struct Desk {
    pub(super) service: Rc<Service>,
    pub(super) vms: Vms,
    directory: Shared,
    fleet: Shared,
    health: Shared,
    lease_key: String,
    claimant: Claimant,
    reporter: Reporter,
    watch: Option<Watch>,
    judge: Judge,
    discovery: Callout,
    reports: Callout,
    /// The members as they were found last, before they are judged.
    found: Option<Vec<Member>>,
    /// Whether members are known, so that a difference to them is an event.
    knows_members: bool,
    failures_seen: u64,
    warming: Warming,
}

impl Desk {
    /// `random` gives numbers that no other VM has.
    pub(super) fn new(
        settings: Settings,
        node_id: &str,
        random: impl Fn() -> u64,
        now_ms: u64,
    ) -> Self {
        let name = settings.service.as_str().to_owned();
        // The first VM of a process is configured before the others exist, and writes these.
        let lease_key = format!("unitring/{name}/lease");
        if shared::read::<Lease>(&lease_key).is_none() {
            shared::write(&lease_key, &Lease::FREE, None);
        }
        let reporter_key = format!("unitring/{name}/reporter");
        let reporter = shared::read::<ReporterId>(&reporter_key).map(|(id, _)| id);
        let reporter = reporter.unwrap_or_else(|| {
            let id = reporter_id(node_id, random());
            shared::write(&reporter_key, &id, None);
            id
        });
        let companion = settings.companion.as_ref();
        let reports = companion.map_or(super::root::TICK_MAX, |companion| companion.interval);
        let service = Rc::new(Service::new(settings));
        let settings = &service.settings;
        let mut desk = Self {
            vms: Vms::new(&service, random()),
            directory: Shared::new(&name, "directory"),
            fleet: Shared::new(&name, "fleet"),
            health: Shared::new(&name, "health"),
            lease_key,
            claimant: Claimant::new(random()),
            reporter: Reporter::new(reporter),
            watch: settings.load.threshold.map(Watch::new),
            judge: Judge::new(settings),
            discovery: Callout::every(settings.discovery.interval),
            reports: Callout::every(reports),
            found: None,
            knows_members: false,
            failures_seen: 0,
            warming: Warming::default(),
            service: Rc::clone(&service),
        };
        desk.follow();
        if !desk.knows_members
            && let Source::Static(members) = &service.settings.discovery.source
        {
            desk.judge(members, now_ms);
        }
        desk
    }

    pub(super) fn tick(&mut self, serves: bool, now_ms: u64) {
        self.follow();
        self.service.tick(now_ms);
        let has_lease = self.holds_lease(serves, now_ms);
        self.vms.tick(&self.service, has_lease, now_ms);
        if has_lease {
            self.discover(now_ms);
            self.judge_again(now_ms);
            self.report(now_ms);
        }
    }

    /// Takes over what another VM has found.
    fn follow(&mut self) {
        if let Some(directory) = self.directory.changed() {
            self.knows_members = true;
            if let Err(error) = self.service.install(directory) {
                log::error!("unitring: {}: {error}", self.service.settings.service);
            }
        }
        if let Some(fleet) = self.fleet.changed() {
            self.service.set_fleet(fleet);
        }
        if let Some(memory) = self.health.changed::<Memory>() {
            self.judge.remember(memory);
        }
    }

    fn holds_lease(&mut self, serves: bool, now_ms: u64) -> bool {
        let read = shared::read::<Lease>(&self.lease_key);
        let (lease, version) = read.map_or((Lease::FREE, None), |(lease, v)| (lease, Some(v)));
        match self.claimant.claim(&lease, serves, now_ms) {
            Claim::Follow => false,
            Claim::Take(lease) => shared::write(&self.lease_key, &lease, version),
            Claim::GiveUp(lease) => {
                shared::write(&self.lease_key, &lease, version);
                false
            }
        }
    }

    fn discover(&mut self, now_ms: u64) {
        let service = Rc::clone(&self.service);
        let name = service.settings.service.as_str();
        let companion = service.settings.companion.as_ref();
        let outgoing = match (&service.settings.discovery.source, companion) {
            (Source::Admin { cluster }, _) => {
                Outgoing::get(cluster, discovery::path(name), "", ADMIN_TIMEOUT)
            }
            (Source::Companion, Some(companion)) => Outgoing::get(
                &companion.cluster,
                discovery::registry_path(name),
                &companion.token,
                companion.timeout,
            ),
            // Settings without a companion are refused then.
            (Source::Companion, None) => return,
            (Source::Static(members), _) => {
                // Once: new settings may have other members than the old ones left behind.
                if self.found.is_none() {
                    self.judge(members, now_ms);
                    self.found = Some(members.clone());
                }
                return;
            }
        };
        if !self.discovery.is_due(now_ms) {
            return;
        }
        if let Err(error) = self.discovery.send(&outgoing, now_ms) {
            self.discovery_failed(&error);
        }
    }

    fn discovery_failed(&mut self, error: &str) {
        self.service.stats.discovery_failed.add(1);
        self.discovery.log_outcome("discovery", Err(error));
    }

    /// Takes the answer to one of its callouts; `false` if it is another's.
    pub(super) fn answered(
        &mut self,
        token: u32,
        answer: impl FnOnce() -> Result<Vec<u8>, String>,
        now_ms: u64,
    ) -> bool {
        if self.discovery.ends_with(token) {
            self.on_members(answer(), now_ms);
        } else if self.reports.ends_with(token) {
            self.on_snapshot(answer(), now_ms);
        } else {
            return false;
        }
        true
    }

    fn on_members(&mut self, body: Result<Vec<u8>, String>, now_ms: u64) {
        let settings = &self.service.settings;
        let (service, identity) = (settings.service.as_str(), settings.rule.identity);
        let members = body.and_then(|body| {
            let members = match settings.discovery.source {
                Source::Companion => discovery::registered(&body),
                _ => discovery::members(service, identity, &body),
            };
            members.map_err(|error| error.to_string())
        });
        match members {
            Ok(members) => {
                self.service.stats.discovery_done.add(1);
                self.discovery.log_outcome("discovery", Ok(()));
                self.judge(&members, now_ms);
                self.found = Some(members);
            }
            Err(error) => self.discovery_failed(&error),
        }
    }

    /// Time and failures change verdicts, too, between two looks at Envoy.
    fn judge_again(&mut self, now_ms: u64) {
        let failures = self.service.stats.failures.show();
        let more = std::mem::replace(&mut self.failures_seen, failures) != failures;
        if (more || self.judge.is_busy())
            && let Some(found) = self.found.take()
        {
            self.judge(&found, now_ms);
            self.found = Some(found);
        }
    }

    fn judge(&mut self, found: &[Member], now_ms: u64) {
        let before = self.service.directory();
        let known = self.knows_members.then_some(&*before);
        let service = Rc::clone(&self.service);
        let failures = |id: &str| service.failures_in_row(id);
        let verdict = self.judge.judge(found, known, failures, now_ms);
        for id in &verdict.forgiven {
            service.forgive(id);
        }
        if verdict.memory_changed {
            self.health.publish(self.judge.memory());
        }
        self.install(&verdict.members, now_ms);
    }

    /// Compares with the members in force; if they differ, re-allocates and tells.
    fn install(&mut self, members: &[Member], now_ms: u64) {
        let before = self.service.directory();
        if self.knows_members && before.is_of(members) {
            return;
        }
        let after = before.with(members, |stat| self.service.shown(stat));
        let (old, new) = match self.service.install(after) {
            Ok(tables) => tables,
            Err(error) => return self.discovery_failed(&error.to_string()),
        };
        self.directory.publish(&*self.service.directory());
        let moved = if old.hosts().is_empty() {
            0.0
        } else {
            new.moved_from(&old)
        };
        let stats = &self.service.stats;
        stats.instances.set(members.len());
        stats.instances_eligible.set(new.hosts().len());
        log::info!(
            "unitring: {}: {} of {} instances take requests, {} virtual nodes, ring {}, {} of keys moved",
            self.service.settings.service,
            new.hosts().len(),
            members.len(),
            new.points(),
            new.version(),
            percent(moved),
        );
        // What a process finds at its start is no change.
        let changes = if std::mem::replace(&mut self.knows_members, true) {
            before.changes(members, self.service.settings.rule.identity)
        } else {
            Vec::new()
        };
        let shares = self.warming.shares(members, &changes, moved);
        for ((member, change), share) in changes.iter().zip(shares) {
            if *change == Change::Ejected(Cause::GatewayFailures) {
                self.service.stats.ejections.add(1);
            }
            self.note(Happening::change(member, *change, &new, share), now_ms);
        }
    }

    fn note(&mut self, happening: Happening, now_ms: u64) {
        let text = format!(
            "{:?} {}: {}",
            happening.kind, happening.instance, happening.reason
        );
        log::info!("unitring: {}: {text}", self.service.settings.service);
        if let Err(error) = self.reporter.note(happening, now_ms) {
            log::error!("unitring: {error}");
        }
        self.service
            .stats
            .events_dropped
            .add(self.reporter.take_dropped());
    }

    fn check_threshold(&mut self, now_ms: u64) {
        let Some(watch) = &mut self.watch else {
            return;
        };
        let loads = self.service.fleet_loads();
        let table = self.service.table();
        let crossings: Vec<Happening> = watch
            .check(loads.iter().map(|(id, load)| (id.as_str(), *load)))
            .into_iter()
            .map(|(instance, kind)| Happening::crossing(instance, kind, &table))
            .collect();
        for crossing in crossings {
            self.note(crossing, now_ms);
        }
    }

    fn report(&mut self, now_ms: u64) {
        if !self.reports.is_due(now_ms) {
            return;
        }
        self.check_threshold(now_ms);
        let service = Rc::clone(&self.service);
        let Some(companion) = &service.settings.companion else {
            // Nobody to tell: the threshold is logged, and events need not be kept.
            self.reporter.confirm(u64::MAX);
            return;
        };
        let directory = service.directory();
        let entries = directory.entries().iter();
        let instances = entries.map(|entry| (entry, service.shown(&entry.stat)));
        let fallbacks = service.stats.fallbacks();
        let table = service.table();
        let report = self
            .reporter
            .report(&service.settings, &table, instances, fallbacks, now_ms);
        let sent = serde_json::to_vec(&report)
            .map_err(|error| error.to_string())
            .and_then(|body| {
                let outgoing = Outgoing {
                    cluster: &companion.cluster,
                    method: "POST",
                    path: "/v1/reports".to_owned(),
                    token: &companion.token,
                    body: Some(&body),
                    timeout: companion.timeout,
                };
                self.reports.send(&outgoing, now_ms)
            });
        if let Err(error) = sent {
            service.stats.report_failed.add(1);
            self.reports.log_outcome("report", Err(&error));
        }
    }

    fn on_snapshot(&mut self, body: Result<Vec<u8>, String>, now_ms: u64) {
        let snapshot = body.and_then(|body| read_answer(&body).map_err(|error| error.to_string()));
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.service.stats.report_failed.add(1);
                self.reports.log_outcome("report", Err(&error));
                return;
            }
        };
        self.service.stats.report_sent.add(1);
        self.reports.log_outcome("report", Ok(()));
        self.reporter.confirm(snapshot.events_through);
        let service = &self.service.settings.service;
        let mut parts = snapshot.services.into_iter();
        if let Some(rest) = parts.find(|rest| rest.service == *service) {
            let fleet = Fleet {
                received_ms: now_ms,
                rest,
            };
            self.fleet.publish(&fleet);
            self.service.set_fleet(fleet);
        }
    }
}
