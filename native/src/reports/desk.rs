//! The work for one service.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use unitring_balancer::balancer::Fleet;
use unitring_balancer::directory::stat_names::StatNames;
use unitring_balancer::directory::{Directory, Shown, Totals};
use unitring_balancer::discovery::page::HostCounts;
use unitring_balancer::placement::Placing;
use unitring_balancer::reporter::{
    AUTHORITY, Happening, Reporter, Threshold, Warming, placed_line, read_answer,
};
use unitring_balancer::settings::{Companion, Settings};
use unitring_balancer::tally::{Ids, Made, Tally};
use unitring_balancer::threshold::Watch;
use unitring_balancer::wiring::{Kind, Mistake, REPORTS_FAILED_MAX, Wiring};
use unitring_protocol::ids::ReporterId;
use unitring_routing::membership::Member;

use crate::binding::{Callout, Hosts, Level, Server, Stat, log};
use crate::clock::{epoch_ms, running_ms};
use crate::policy::{Policy, locked};
use crate::worker;

/// Without a companion, crossings of the threshold are looked for this often.
const UNREPORTED: Duration = Duration::from_secs(1);

/// The main thread's work for a service.
#[derive(Debug)]
pub(crate) struct Desk {
    service: String,
    /// The policy that serves now: that of the newest cluster.
    policy: Weak<Policy>,
    directory: Arc<Directory>,
    /// Whether members are known, so that a difference from them is an event.
    knows_members: bool,
    names: StatNames,
    tally: Tally,
    totals: BTreeMap<String, Totals>,
    reporter: Reporter,
    warming: Warming,
    watch: Option<Watch>,
    update_watch: Option<Watch>,
    wiring: Wiring,
    fleet: Option<Fleet>,
    /// The report under way.
    asked: Option<u64>,
    due_ms: u64,
    failed_in_row: u32,
    /// Requests that were not placed by their key, by all policies.
    pub(crate) fallbacks: Arc<AtomicU64>,
}

impl Desk {
    pub(super) fn new(settings: &Settings, reporter: ReporterId) -> Self {
        Self {
            service: settings.service.as_str().to_owned(),
            policy: Weak::new(),
            directory: Arc::new(Directory::empty(Placing::unasked(settings))),
            knows_members: false,
            names: StatNames::default(),
            tally: Tally::default(),
            totals: BTreeMap::new(),
            reporter: Reporter::new(reporter),
            warming: Warming::default(),
            watch: None,
            update_watch: None,
            wiring: Wiring::default(),
            fleet: None,
            asked: None,
            due_ms: 0,
            failed_in_row: 0,
            fallbacks: Arc::default(),
        }
    }

    /// This policy serves from now on.
    pub(crate) fn serve(&mut self, policy: &Arc<Policy>) {
        self.policy = Arc::downgrade(policy);
        self.watch = policy.settings.load.threshold.map(Watch::new);
        self.update_watch = policy.settings.load.update_threshold.map(Watch::new);
        // It may report to another companion, or to none.
        self.failed_in_row = 0;
        self.wiring.set(Kind::CompanionCluster, None);
    }

    fn say(&self, level: Level, line: &str) {
        log(level, &format!("{}: {line}", self.service));
    }

    /// Places these members if they differ from the ones in force, and reports the changes.
    pub(crate) fn install(&mut self, policy: &Policy, members: &[Member]) {
        let placing = Placing::unasked(&policy.settings);
        // Another policy of this service may have reported the same change, and still has rings of its own.
        let placed = policy.placed();
        let is_published = policy.version() > 0;
        if is_published && placed.usual.balancer.directory().is_of(members, placing) {
            return;
        }
        let nothing = |_: &str| Shown::default();
        let before = Arc::clone(&self.directory);
        let directory = before.with(members, placing, &mut self.names, nothing);
        let old = placed;
        let placed = match old.update(&policy.settings, directory, &mut locked(&policy.picks)) {
            Ok(placed) => placed,
            Err(error) => {
                return self.say(Level::Error, &format!("the ring stays as it is: {error}"));
            }
        };
        let placed = match &self.fleet {
            Some(fleet) => placed.with_fleet(fleet),
            None => placed,
        };
        let (old, new) = (old.usual.balancer.table(), placed.usual.balancer.table());
        let moved = if old.hosts().is_empty() {
            0.0
        } else {
            new.moved_from(old)
        };
        // While a priority panics, its ring has hosts that a policy cannot name.
        let eligible = new.hosts().iter().filter(|host| host.steerable).count();
        policy.stats.instances(members.len(), eligible);
        self.say(
            Level::Info,
            &placed_line(eligible, members.len(), new, moved),
        );
        if placed.rescue.is_some() && policy.placed().rescue.is_none() {
            self.say(
                Level::Warn,
                "a priority panics: Envoy would use its unhealthy hosts, too, but a policy can name a healthy host only",
            );
        }
        // The instances that a process finds at its start are no change.
        let changes = match self.knows_members {
            true => before.changes(members, placing.rule.identity),
            false => Vec::new(),
        };
        let shares = self.warming.shares(members, &changes, moved);
        let now_ms = epoch_ms();
        let told = changes.iter().zip(shares);
        let told =
            told.map(|((member, change), share)| Happening::change(member, *change, new, share));
        let told: Vec<Happening> = told.collect();
        self.directory = Arc::clone(placed.usual.balancer.directory());
        self.knows_members = true;
        policy.publish(placed);
        for happening in told {
            self.note(policy, happening, now_ms);
        }
    }

    fn note(&mut self, policy: &Policy, happening: Happening, now_ms: u64) {
        let text = format!(
            "{:?} {}: {}",
            happening.kind, happening.instance, happening.reason
        );
        self.say(Level::Info, &text);
        if let Err(error) = self.reporter.note(happening, now_ms) {
            self.say(Level::Error, &error.to_string());
        }
        policy
            .stats
            .add(policy.stats.events_dropped, self.reporter.take_dropped());
    }

    /// Returns the time until this is wanted again.
    pub(super) fn tick(&mut self, server: &Server<'_>, now_ms: u64) -> u64 {
        let Some(policy) = self.policy.upgrade() else {
            return u64::MAX;
        };
        if let Some(placed) = policy.placed().without_stale_fleet(now_ms) {
            policy.publish(placed);
            policy.stats.add(policy.stats.fleet_stale, 1);
            self.fleet = None;
        }
        let companion = policy.settings.companion.as_ref();
        let interval = companion.map_or(UNREPORTED, |companion| companion.interval);
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let set_back = self.due_ms > now_ms.saturating_add(interval_ms);
        if self.asked.is_none() && (now_ms >= self.due_ms || set_back) {
            self.due_ms = now_ms.saturating_add(interval_ms);
            self.report(&policy, server, now_ms);
        }
        for warning in self.wiring.warnings(now_ms) {
            self.say(Level::Warn, &warning);
        }
        self.due_ms.saturating_sub(now_ms)
    }

    fn report(&mut self, policy: &Policy, server: &Server<'_>, now_ms: u64) {
        let Some(counts) = policy.with_hosts(|hosts| count(policy, hosts)) else {
            return;
        };
        let made = Made {
            asked_ms: now_ms,
            came_ms: now_ms,
        };
        let alone = (Ids::Addresses, true);
        for growth in self.tally.take(&counts, |_| true, made, alone) {
            let totals = self.totals.entry(growth.id).or_default();
            totals.calls = totals.calls.saturating_add(growth.calls);
            totals.failures = totals.failures.saturating_add(growth.failures);
        }
        let in_flight: BTreeMap<&str, u64> = counts
            .iter()
            .map(|(id, counts)| (id.as_str(), counts.in_flight))
            .collect();
        // An instance that comes back counts from 0, as one that is new.
        self.totals
            .retain(|id, _| in_flight.contains_key(id.as_str()));
        self.check_thresholds(policy, &in_flight, now_ms);
        let Some(companion) = policy
            .settings
            .companion
            .as_ref()
            .filter(|_| super::are_sent())
        else {
            self.reporter.confirm(u64::MAX);
            return;
        };
        let shown = |id: &str| Shown {
            totals: self.totals.get(id).copied().unwrap_or_default(),
            in_flight: in_flight.get(id).copied().unwrap_or(0),
            update_load: 0,
        };
        let directory = Arc::clone(&self.directory);
        let entries = directory.entries().iter();
        let placed = policy.placed();
        let report = self.reporter.report(
            &policy.settings,
            placed.usual.balancer.table(),
            entries.map(|entry| (&**entry, shown(&entry.member.id))),
            self.fallbacks.load(Ordering::Relaxed),
            self.wiring.findings(),
            now_ms,
        );
        let sent = serde_json::to_vec(&report).map_err(|error| error.to_string());
        let sent = sent.and_then(|body| send(server, companion, &body));
        match sent {
            Ok(id) => self.asked = Some(id),
            Err(error) => {
                self.report_failed(policy, &error);
                // Envoy says at once that it has no such cluster.
                self.wiring.set(
                    Kind::CompanionCluster,
                    Some(Mistake::no_companion(&error, &companion.cluster)),
                );
            }
        }
    }

    fn check_thresholds(&mut self, policy: &Policy, in_flight: &BTreeMap<&str, u64>, now_ms: u64) {
        let placed = policy.placed();
        let balancer = &placed.usual.balancer;
        let mut crossings = Vec::new();
        if let Some(watch) = &mut self.watch {
            let hosts = balancer.table().hosts().iter().enumerate();
            let loads = hosts.map(|(at, host)| {
                let here = in_flight.get(host.id.as_str()).copied().unwrap_or(0);
                (host.id.as_str(), here.saturating_add(balancer.rest_of(at)))
            });
            let crossed = watch.check(loads).into_iter();
            crossings.extend(crossed.map(|crossed| (Threshold::InFlight, crossed)));
        }
        if let Some(watch) = &mut self.update_watch {
            let crossed = watch.check(balancer.update_rates()).into_iter();
            crossings.extend(crossed.map(|crossed| (Threshold::Updates, crossed)));
        }
        for (of, (instance, kind)) in crossings {
            let crossing = Happening::crossing(of, &instance, kind, balancer.table());
            self.note(policy, crossing, now_ms);
        }
    }

    fn report_failed(&mut self, policy: &Policy, error: &str) {
        policy.stats.add(policy.stats.report_failed, 1);
        if self.failed_in_row == 0 {
            self.say(Level::Warn, &format!("report: {error}"));
        }
        self.failed_in_row = self.failed_in_row.saturating_add(1);
        if self.failed_in_row < REPORTS_FAILED_MAX {
            return;
        }
        let companion = policy.settings.companion.as_ref();
        let cluster = companion.map_or("", |companion| companion.cluster.as_str());
        let mistake = Mistake::no_companion(error, cluster);
        self.wiring.set(Kind::CompanionCluster, Some(mistake));
    }

    pub(super) fn awaits(&self, id: u64) -> bool {
        self.asked == Some(id)
    }

    pub(super) fn on_answer(&mut self, body: Result<Vec<u8>, String>, now_ms: u64) {
        self.asked = None;
        let Some(policy) = self.policy.upgrade() else {
            return;
        };
        let snapshot = body.and_then(|body| read_answer(&body).map_err(|error| error.to_string()));
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(error) => return self.report_failed(&policy, &error),
        };
        if std::mem::take(&mut self.failed_in_row) > 0 {
            self.say(Level::Info, "report: works again");
        }
        self.wiring.set(Kind::CompanionCluster, None);
        policy.stats.add(policy.stats.report_sent, 1);
        self.reporter.confirm(snapshot.events_through);
        let mut parts = snapshot.services.into_iter();
        if let Some(rest) = parts.find(|rest| rest.service == policy.settings.service) {
            let fleet = Fleet {
                received_ms: now_ms,
                rest,
            };
            policy.publish(policy.placed().with_fleet(&fleet));
            self.fleet = Some(fleet);
        }
    }
}

/// The counts of all instances now, each id once.
fn count(policy: &Policy, hosts: &Hosts<'_>) -> Vec<(String, HostCounts)> {
    let mut counts: Vec<(String, HostCounts)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let (picks, second) = (locked(&policy.picks), running_ms() / 1_000);
    for priority in 0..hosts.priorities() {
        for at in 0..hosts.count(priority) {
            let id = String::from_utf8_lossy(hosts.address(priority, at)).into_owned();
            let stat = |which| hosts.stat(priority, at, which);
            let seen = worker::seen(hosts, priority, at);
            let picks = picks.get(priority, &id);
            let in_flight = picks.map_or(seen.active, |picks| picks.in_flight(&seen, second, 0));
            let one = HostCounts {
                calls: seen.total,
                errors: stat(Stat::Errors),
                successes: stat(Stat::Successes),
                sure: seen.refused.saturating_add(stat(Stat::Timeouts)),
                in_flight,
            };
            match places.get(&id).and_then(|at| counts.get_mut(*at)) {
                Some((_, counts)) => *counts = counts.plus(one),
                None => {
                    places.insert(id.clone(), counts.len());
                    counts.push((id, one));
                }
            }
        }
    }
    counts
}

fn send(server: &Server<'_>, companion: &Companion, body: &[u8]) -> Result<u64, String> {
    let bearer = format!("Bearer {}", companion.token);
    let mut headers = vec![
        (":method", "POST"),
        (":path", "/v1/reports"),
        (":authority", AUTHORITY),
        ("content-type", "application/json"),
    ];
    if !companion.token.is_empty() {
        headers.push(("authorization", bearer.as_str()));
    }
    let sent = server.send(&Callout {
        cluster: &companion.cluster,
        headers: &headers,
        body,
        timeout_ms: u64::try_from(companion.timeout.as_millis()).unwrap_or(u64::MAX),
    });
    sent.ok_or_else(|| format!("Envoy has no usable cluster {}", companion.cluster))
}
