//! A VM's work for one service outside of requests: it follows the other VMs, and while it holds
//! the lease, it discovers, judges and reports.
//!
//! There are two leases. VMs with the same settings share one: its holder finds the instances and
//! publishes how requests are placed on them. All VMs of a service, with any settings, share
//! the other: its holder reports to the companion for the process, and watches the VMs that count.
//! A VM whose settings came into force last holds it.
//!
//! The constructors of a desk and its parts are not inlined into one function: the memory that compiling the
//! largest function takes stays with the process.
//!
//! | module | what |
//! |---|---|
//! | [`discover`] | questions to Envoy, and their answers |
//! | [`judge`] | instances → which of them take requests; events for changes |
//! | [`count`] | Envoy's counts → stats, and the errors of the gauges |
//! | [`check`] | the wiring |
//! | [`others`] | the service's other configurations in this process |
//! | [`report`] | reports, and the snapshot of the fleet |

mod check;
mod count;
mod discover;
mod judge;
mod others;
mod report;

use std::rc::Rc;
use std::time::Duration;

use unitring_protocol::ids::ReporterId;

use super::callout::{Callout, answer};
use super::exported::Exported;
use super::service::Service;
use super::shared::{self, Shared, key};
use super::vms::Vms;
use discover::Discovery;
use others::Others;
use unitring_balancer::directory::reader::Reader;
use unitring_balancer::discovery::runtime::InForce;
use unitring_balancer::drift::{Drift, Drifts};
use unitring_balancer::health::{Judge, Memory};
use unitring_balancer::lease::{Claim, Claimant, Lease};
use unitring_balancer::reporter::{Reporter, Warming, reporter_id};
use unitring_balancer::settings::{CaptureMode, Settings, Source};
use unitring_balancer::threshold::Watch;
use unitring_balancer::wiring::{Samples, Wiring};

/// VMs that load the same settings within this time do so because of the same change.
const LOADING_MS: u64 = 30_000;

/// One VM's work for one service.
pub(super) struct Desk {
    pub(super) service: Rc<Service>,
    /// A hash of the settings that this VM was loaded with.
    configuration: u64,
    pub(super) vms: Vms,
    directory: Shared,
    /// The reader of the directory, with the last one that it read.
    reader: Reader,
    fleet: Shared,
    health: Shared,
    runtime: Shared,
    drift: Shared,
    /// The lease of the VMs with these settings.
    own_lease: Leased,
    /// The lease of all VMs of the service.
    service_lease: Leased,
    others: Others,
    /// Whether this VM held both at its last tick.
    leads: bool,
    reporter: Reporter,
    watch: Option<Watch>,
    update_watch: Option<Watch>,
    judge: Judge,
    discovery: Discovery,
    drifts: Drifts,
    last_drift: Drift,
    reports: Callout,
    /// Reports in a row that the companion did not take.
    reports_failed: u32,
    /// Whether members are known, so that a difference from them is an event.
    knows_members: bool,
    failures_seen: u64,
    warming: Warming,
    wiring: Wiring,
    samples: Samples,
    checked_ms: u64,
    /// When the other filters were told last what this one hashes.
    key_told_ms: u64,
    /// Those that were told last.
    contradictions: Vec<String>,
    exported: Exported,
    exported_ms: u64,
}

/// A VM's side of a lease, and the lease's key.
struct Leased {
    key: String,
    claimant: Claimant,
}

impl Leased {
    #[inline(never)]
    fn new(key: String, claimant: Claimant) -> Self {
        // The first VM of a process is configured before the others exist, and writes these keys:
        // Envoy does not compare versions when it writes an absent key.
        if shared::read::<Lease>(&key).is_none() {
            shared::write(&key, &Lease::FREE, None);
        }
        Self { key, claimant }
    }

    fn read(&self) -> (Lease, Option<u32>) {
        let read = shared::read::<Lease>(&self.key);
        read.map_or((Lease::FREE, None), |(lease, v)| (lease, Some(v)))
    }

    fn is_held(&mut self, serves: bool, now_ms: u64) -> bool {
        let (lease, version) = self.read();
        match self.claimant.claim(&lease, serves, now_ms) {
            Claim::Follow => false,
            Claim::Take(lease) => shared::write(&self.key, &lease, version),
            Claim::GiveUp(lease) => {
                shared::write(&self.key, &lease, version);
                false
            }
        }
    }
}

impl Desk {
    /// `root` is the VM's root context and how often it ticks; `configuration` is a hash of the settings that the VM
    /// was loaded with; `random` returns numbers that no other VM has.
    #[inline(never)]
    pub(super) fn new(
        settings: Settings,
        root: (u32, Duration),
        configuration: u64,
        node_id: &str,
        random: impl Fn() -> u64,
        now_ms: u64,
    ) -> Self {
        let name = settings.service.as_str().to_owned();
        let own = |what| key(what, Some(configuration), &name);
        let of_all = |what| key(what, None, &name);
        let reporter = shared::read::<ReporterId>(&of_all("reporter")).map(|(id, _)| id);
        let reporter = reporter.unwrap_or_else(|| {
            let id = reporter_id(node_id, random());
            shared::write(&of_all("reporter"), &id, None);
            id
        });
        let since_ms = loaded_ms(&own("since"), now_ms);
        let claimant = |since_ms| Claimant::new(random(), configuration, since_ms);
        let companion = settings.companion.as_ref();
        let reports = companion.map_or(super::root::TICK_MAX, |companion| companion.interval);
        let service = Rc::new(Service::new(settings, root, reporter.clone(), random()));
        let settings = &service.settings;
        let is_told = check::tell_key(settings, configuration, now_ms);
        let mut desk = Self {
            configuration,
            vms: Vms::new(&service, random()),
            directory: Shared::new(own("directory")),
            reader: Reader::default(),
            fleet: Shared::new(of_all("fleet")),
            health: Shared::new(own("health")),
            runtime: Shared::new(of_all("runtime")),
            drift: Shared::new(own("drift")),
            own_lease: Leased::new(own("lease"), claimant(0)),
            service_lease: Leased::new(of_all("lease"), claimant(since_ms)),
            others: Others::new(configuration, &name),
            leads: false,
            reporter: Reporter::new(reporter),
            watch: settings.load.threshold.map(Watch::new),
            update_watch: settings.load.update_threshold.map(Watch::new),
            judge: Judge::new(settings),
            discovery: Discovery::new(settings),
            drifts: Drifts::default(),
            last_drift: Drift::default(),
            reports: Callout::every(reports),
            reports_failed: 0,
            knows_members: false,
            failures_seen: 0,
            warming: Warming::default(),
            wiring: Wiring::default(),
            samples: Samples::default(),
            checked_ms: 0,
            key_told_ms: if is_told { now_ms } else { 0 },
            contradictions: Vec::new(),
            exported: Exported::new(
                settings.exported.clone(),
                settings.capture.mode != CaptureMode::Off,
            ),
            exported_ms: 0,
            service: Rc::clone(&service),
        };
        desk.follow();
        if !desk.knows_members
            && let Source::Static(members) = &service.settings.discovery.source
        {
            desk.judge_listed(members, now_ms);
        }
        desk
    }

    pub(super) fn tick(&mut self, serves: bool, now_ms: u64) {
        self.follow();
        self.service.tick(now_ms);
        self.service
            .connections
            .tick(self.others.connection(), now_ms);
        let discovers = self.own_lease.is_held(serves, now_ms);
        if discovers {
            self.come_back(now_ms);
        }
        // Only the VM that discovers reports, since it has the findings.
        let reports = discovers && self.service_lease.is_held(serves, now_ms);
        self.leads = reports;
        self.vms.tick(&self.service, reports, now_ms);
        if discovers {
            self.discover(now_ms);
            self.judge_again(now_ms);
            self.check(now_ms);
        }
        if !reports {
            self.exported.pause();
        }
        if reports {
            self.report(now_ms);
        } else if discovers && self.is_replaced() {
            // A VM with newer settings reports the events.
            self.reporter.confirm(u64::MAX);
        }
    }

    /// Whether a VM with other settings reports. One with these gave up discovering when it began to serve, and its
    /// lease as the reporter ends soon: until then the events of this VM wait.
    #[inline(never)]
    fn is_replaced(&self) -> bool {
        let (lease, _) = self.service_lease.read();
        lease.configuration != self.configuration
    }

    /// Names these settings among those of the service, and makes them the newest if Envoy uses them again in place of those that report.
    #[inline(never)]
    fn come_back(&mut self, now_ms: u64) {
        let (lease, _) = self.service_lease.read();
        self.others.tick(lease.configuration, now_ms);
        if self.others.are_replaced(lease.configuration, now_ms) {
            self.service_lease.claimant.renew(now_ms);
        }
    }

    /// Adopts what another VM has published.
    fn follow(&mut self) {
        let reader = &mut self.reader;
        let changed = self.directory.changed_by(|bytes| reader.read(bytes));
        if let Some(directory) = changed {
            self.knows_members = true;
            if let Err(error) = self.service.install(directory) {
                log::error!("unitring: {}: {error}", self.service.settings.service);
            }
        }
        if let Some(fleet) = self.fleet.changed() {
            self.service.set_fleet(fleet);
        }
        if let Some(drift) = self.drift.changed() {
            self.service.set_drift(drift);
        }
        if let Some(in_force) = self.runtime.changed::<InForce>() {
            self.discovery.look.go_on_with(in_force);
            self.discovery.in_force = in_force;
        }
        if let Some(memory) = self.health.changed::<Memory>() {
            self.judge.remember(memory);
        }
    }

    /// Handles the answer to a callout of this desk; `false` if it is another desk's.
    pub(super) fn answered(&mut self, token: u32, body_size: usize, now_ms: u64) -> bool {
        if self.discovery.callout.ends_with(token) {
            self.on_discovered(body_size, now_ms);
        } else if self.reports.ends_with(token) {
            self.on_snapshot(answer(body_size), now_ms);
        } else {
            return false;
        }
        true
    }
}

/// When the settings that this VM has just loaded were loaded first. All VMs of one change agree on
/// it.
fn loaded_ms(key: &str, now_ms: u64) -> u64 {
    let before = shared::read::<u64>(key);
    if let Some((before, _)) = before
        && before.abs_diff(now_ms) < LOADING_MS
    {
        return before;
    }
    shared::write(key, &now_ms, before.map(|(_, version)| version));
    now_ms
}
