//! One VM: its configuration, its timer, and, while it holds the lease, discovery and reports.

use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use unitring_routing::membership::Member;

use super::callout::{Callout, Outgoing, answer};
use super::service::Service;
use super::shared::{self, Shared};
use super::stream::Stream;
use crate::balancer::Fleet;
use crate::discovery;
use crate::lease::{Claim, Claimant, Lease};
use crate::reporter::{Happening, Reporter, read_answer, reporter_id};
use crate::settings::{Settings, Source};
use crate::threshold::Watch;
use unitring_protocol::ids::ReporterId;

/// The timer runs at least this often, so that a change reaches every worker soon.
const TICK_MAX: Duration = Duration::from_millis(250);
/// How long Envoy's own admin interface may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The root context; empty until it is configured.
#[derive(Default)]
pub(super) struct Root {
    vm: Option<Vm>,
}

/// A configured VM.
struct Vm {
    service: Rc<Service>,
    directory: Shared,
    fleet: Shared,
    lease_key: String,
    claimant: Claimant,
    reporter: Reporter,
    watch: Option<Watch>,
    discovery: Callout,
    reports: Callout,
    /// Whether members are known, so that a difference to them is an event.
    knows_members: bool,
    /// Whether the members of the settings were compared with those in force.
    compared_static: bool,
}

impl Vm {
    fn configure(settings: Settings, node_id: &str, now_ms: u64) -> Self {
        let name = settings.service.as_str().to_owned();
        let companion = settings.companion.as_ref();
        let watch = settings.load.threshold.map(Watch::new);
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
        let mut vm = Self {
            directory: Shared::new(&name, "directory"),
            fleet: Shared::new(&name, "fleet"),
            lease_key,
            claimant: Claimant::new(random()),
            reporter: Reporter::new(reporter),
            watch,
            discovery: Callout::every(settings.discovery.interval),
            reports: Callout::every(companion.map_or(TICK_MAX, |companion| companion.interval)),
            service: Rc::new(Service::new(settings)),
            knows_members: false,
            compared_static: false,
        };
        vm.follow();
        if !vm.knows_members
            && let Source::Static(members) = vm.service.settings.discovery.source.clone()
        {
            vm.discovered(&members, now_ms);
        }
        vm
    }

    fn tick(&mut self, now_ms: u64) {
        self.follow();
        self.service.tick(now_ms);
        if self.holds_lease(now_ms) {
            self.discover(now_ms);
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
    }

    fn holds_lease(&mut self, now_ms: u64) -> bool {
        let read = shared::read::<Lease>(&self.lease_key);
        let (lease, version) = read.map_or((Lease::FREE, None), |(lease, v)| (lease, Some(v)));
        match self
            .claimant
            .claim(&lease, self.service.serves.get(), now_ms)
        {
            Claim::Follow => false,
            Claim::Take(lease) => shared::write(&self.lease_key, &lease, version),
            Claim::GiveUp(lease) => {
                shared::write(&self.lease_key, &lease, version);
                false
            }
        }
    }

    fn discover(&mut self, now_ms: u64) {
        let cluster = match &self.service.settings.discovery.source {
            Source::Admin { cluster } => cluster,
            Source::Static(members) => {
                // Once: new settings may have other members than the old ones left behind.
                if !std::mem::replace(&mut self.compared_static, true) {
                    let members = members.clone();
                    self.discovered(&members, now_ms);
                }
                return;
            }
        };
        if !self.discovery.is_due(now_ms) {
            return;
        }
        let path = discovery::path(self.service.settings.service.as_str());
        let outgoing = Outgoing {
            cluster,
            method: "GET",
            path: &path,
            token: "",
            body: None,
            timeout: ADMIN_TIMEOUT,
        };
        if let Err(error) = self.discovery.send(&outgoing, now_ms) {
            self.service.stats.discovery_failed.add(1);
            self.discovery.log_outcome("discovery", Err(&error));
        }
    }

    fn on_clusters(&mut self, body: Result<Vec<u8>, String>, now_ms: u64) {
        let service = self.service.settings.service.as_str();
        let members = body
            .and_then(|body| discovery::members(service, &body).map_err(|error| error.to_string()));
        match members {
            Ok(members) => {
                self.service.stats.discovery_done.add(1);
                self.discovery.log_outcome("discovery", Ok(()));
                self.discovered(&members, now_ms);
            }
            Err(error) => {
                self.service.stats.discovery_failed.add(1);
                self.discovery.log_outcome("discovery", Err(&error));
            }
        }
    }

    /// Compares with the members in force; if they differ, re-allocates and tells.
    fn discovered(&mut self, members: &[Member], now_ms: u64) {
        let before = self.service.directory();
        if self.knows_members && before.members() == members {
            return;
        }
        let after = before.with(members, |stat| self.service.shown(stat));
        let (old, new) = match self.service.install(after) {
            Ok(tables) => tables,
            Err(error) => {
                self.service.stats.discovery_failed.add(1);
                self.discovery
                    .log_outcome("discovery", Err(&error.to_string()));
                return;
            }
        };
        self.directory.publish(&*self.service.directory());
        let moved = new.moved_from(&old);
        let stats = &self.service.stats;
        stats.instances.set(members.len());
        stats.instances_eligible.set(new.hosts().len());
        log::info!(
            "unitring: {}: {} of {} instances take requests, {} virtual nodes, ring {}, {:.1} % of keys moved",
            self.service.settings.service,
            new.hosts().len(),
            members.len(),
            new.points(),
            new.version(),
            if old.hosts().is_empty() {
                0.0
            } else {
                moved * 100.0
            },
        );
        // What a process finds at its start is no change.
        if std::mem::replace(&mut self.knows_members, true) {
            for (member, change) in before.changes(members) {
                self.note(Happening::change(&member.id, change, &new, moved), now_ms);
            }
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
        let settings = &self.service.settings;
        let Some(companion) = &settings.companion else {
            // Nobody to tell: the threshold is logged, and events need not be kept.
            self.reporter.confirm(u64::MAX);
            return;
        };
        let directory = self.service.directory();
        let instances = directory.entries().iter();
        let instances = instances.map(|entry| (entry, self.service.shown(&entry.stat)));
        let fallbacks = self.service.stats.fallbacks();
        let table = self.service.table();
        let report = self
            .reporter
            .report(settings, &table, instances, fallbacks, now_ms);
        let sent = serde_json::to_vec(&report)
            .map_err(|error| error.to_string())
            .and_then(|body| {
                let outgoing = Outgoing {
                    cluster: &companion.cluster,
                    method: "POST",
                    path: "/v1/reports",
                    token: &companion.token,
                    body: Some(&body),
                    timeout: companion.timeout,
                };
                self.reports.send(&outgoing, now_ms)
            });
        if let Err(error) = sent {
            self.service.stats.report_failed.add(1);
            self.reports.log_outcome("report", Err(&error));
        }
    }

    fn on_answer(&mut self, body: Result<Vec<u8>, String>, now_ms: u64) {
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
        if let Some(rest) = snapshot
            .services
            .into_iter()
            .find(|rest| rest.service == *service)
        {
            let fleet = Fleet {
                received_ms: now_ms,
                rest,
            };
            self.fleet.publish(&fleet);
            self.service.set_fleet(fleet);
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, _: usize, body_size: usize, _: usize) {
        let now_ms = millis(self.get_current_time());
        let Some(vm) = &mut self.vm else {
            return;
        };
        if vm.discovery.ends_with(token) {
            vm.on_clusters(answer(body_size), now_ms);
        } else if vm.reports.ends_with(token) {
            vm.on_answer(answer(body_size), now_ms);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let json = self.get_plugin_configuration().unwrap_or_default();
        let settings = match Settings::parse(&json) {
            Ok(settings) => settings,
            Err(error) => {
                log::error!("unitring: settings refused: {error}");
                return false;
            }
        };
        let node_id = self.get_property(vec!["node", "id"]).unwrap_or_default();
        let now_ms = millis(self.get_current_time());
        let intervals = settings
            .companion
            .iter()
            .map(|companion| companion.interval);
        let tick = intervals
            .fold(settings.discovery.interval, Duration::min)
            .min(TICK_MAX);
        self.vm = Some(Vm::configure(
            settings,
            &String::from_utf8_lossy(&node_id),
            now_ms,
        ));
        self.set_tick_period(tick);
        true
    }

    fn on_tick(&mut self) {
        let now_ms = millis(self.get_current_time());
        if let Some(vm) = &mut self.vm {
            vm.tick(now_ms);
        }
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        let vm = self.vm.as_ref()?;
        vm.service.serves.set(true);
        Some(Box::new(Stream::new(Rc::clone(&vm.service))))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A number that no other VM has, from the randomness that Envoy gives a VM.
fn random() -> u64 {
    RandomState::new().hash_one(0u8)
}
