//! Instances as discovery found them → which of them take requests, and events for changes.

use std::rc::Rc;

use unitring_routing::membership::{Cause, Change, Member};

use super::Desk;
use crate::filter::shared::{self, key};
use unitring_balancer::directory::Directory;
use unitring_balancer::directory::stat_names::StatNames;
use unitring_balancer::placement::{Placing, contradictions};
use unitring_balancer::reporter::{Happening, placed_line};

impl Desk {
    /// Judges again between two looks at Envoy, since time and failures change verdicts, too.
    pub(super) fn judge_again(&mut self, now_ms: u64) {
        let failures = self.service.stats.failures.show();
        let more = std::mem::replace(&mut self.failures_seen, failures) != failures;
        if (more || self.judge.is_busy()) && self.discovery.has_found {
            let found = std::mem::take(&mut self.discovery.found.members);
            self.judge(&found, now_ms);
            self.discovery.found.members = found;
        }
    }

    pub(super) fn judge(&mut self, found: &[Member], now_ms: u64) {
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
        let placing = if service.settings.counts_by_envoy() {
            Placing::of(&service.settings, &self.discovery.found, &verdict.members)
        } else {
            Placing::unasked(&service.settings)
        };
        self.install(&verdict.members, placing, now_ms);
    }

    /// If the members or their placing differ from those in force, installs a new table and tells
    /// what changed.
    fn install(&mut self, members: &[Member], placing: Placing, now_ms: u64) {
        let before = self.service.directory();
        if self.knows_members && before.is_of(members, placing) {
            return;
        }
        let after = self.with_stats(&before, members, placing);
        let (old, new) = match self.service.install(after) {
            Ok(tables) => tables,
            Err(error) => return self.discovery_failed(&error.to_string()),
        };
        let bytes = self.service.directory().encode();
        self.directory.publish_bytes(&bytes);
        let moved = if old.hosts().is_empty() {
            0.0
        } else {
            new.moved_from(&old)
        };
        let stats = &self.service.stats;
        stats.instances.set(members.len());
        stats.instances_eligible.set(new.hosts().len());
        log::info!(
            "unitring: {}: {}",
            self.service.settings.service,
            placed_line(new.hosts().len(), members.len(), &new, moved),
        );
        if before.placing() != placing || !self.knows_members {
            self.tell_placing(placing);
        }
        // The instances that a process finds at its start are no change.
        let changes = if std::mem::replace(&mut self.knows_members, true) {
            before.changes(members, placing.rule.identity)
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

    /// The directory of these members. All VMs of the process share the names of stats, also names that
    /// another VM gave.
    fn with_stats(&self, before: &Directory, members: &[Member], placing: Placing) -> Directory {
        let service = &self.service;
        let shown = |stat: &str| service.shown(stat);
        let mut after = Directory::empty(placing);
        let names = key("names", None, service.settings.service.as_str());
        shared::change::<StatNames>(&names, |names| {
            let given = names.clone();
            after = before.with(members, placing, names, shown);
            *names != given
        });
        after
    }

    /// Logs why requests are left to Envoy.
    fn tell_placing(&self, placing: Placing) {
        let service = &self.service.settings.service;
        if let Some(left) = placing.left {
            log::warn!(
                "unitring: {service}: every request is left to Envoy's own policy: {}",
                left.as_str()
            );
        }
    }

    /// Logs each contradiction between the settings and Envoy's cluster once, when it begins.
    pub(super) fn tell_contradictions(&mut self) {
        let service = &self.service.settings;
        let lines = contradictions(service, &self.discovery.found);
        for line in &lines {
            if !self.contradictions.contains(line) {
                log::info!("unitring: {}: {line}", service.service);
            }
        }
        self.contradictions = lines;
    }

    pub(super) fn note(&mut self, happening: Happening, now_ms: u64) {
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
}
