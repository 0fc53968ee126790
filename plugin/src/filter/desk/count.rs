//! Envoy's counts of each instance → stats, and the errors of this process's gauges.

use unitring_routing::names::Names;

use super::Desk;
use crate::filter::shared::{self, key};
use unitring_balancer::discovery::routes::Routes;
use unitring_balancer::drift::Sample;
use unitring_balancer::tally::{Growth, Ids, Tally};
use unitring_routing::membership::Identity;

impl Desk {
    /// Adds the growth since the last look. VMs with other settings may look, too; only the VM that
    /// succeeds in writing the tally adds the growth. VMs that know instances by other ids have stats of
    /// their own for them.
    pub(super) fn count(&mut self) {
        let service = &self.service;
        if !service.settings.counts_by_envoy() {
            return;
        }
        let directory = service.directory();
        let known = directory.entries().iter();
        let known = Names::of(known.map(|entry| entry.member.id.as_str()));
        let found = &self.discovery.found;
        let made = self.discovery.page_made;
        let ids = match service.settings.ring.identity {
            Some(Identity::Id) => Ids::Hostnames,
            _ => Ids::Addresses,
        };
        let counter = (ids, self.leads);
        let mut growth: Vec<Growth> = Vec::new();
        let written = shared::change::<Tally>(
            &key("tally", None, service.settings.service.as_str()),
            |tally| {
                let before = tally.clone();
                // An instance without stats is counted in full at a later look.
                growth = tally.take(&found.counts, |id| known.has(id), made, counter);
                *tally != before
            },
        );
        if !written {
            return;
        }
        let routes = self.discovery.routes.as_ref();
        let cluster = self.discovery.found.cluster.as_ref();
        let retries_failures_alone = routes.is_some_and(Routes::retry_failures_alone)
            && cluster.is_some_and(|cluster| !cluster.retries_answers);
        let answers = self
            .discovery
            .found
            .statuses
            .answers(retries_failures_alone);
        for growth in &growth {
            service.add(growth, answers);
        }
    }

    /// Compares the gauges with Envoy's counts, made between two readings of the gauges.
    pub(super) fn correct_gauges(&mut self) {
        let after = self.service.gauges();
        let before = &self.discovery.gauges;
        let counts = &self.discovery.found.counts;
        let known = Names::of(counts.iter().map(|(id, _)| id.as_str()));
        let earlier = Names::of(before.iter().map(|(id, _)| id.as_str()));
        let samples = after.iter().filter_map(|(id, gauge)| {
            let (_, counts) = counts.get(known.last(id)?)?;
            let before = earlier.last(id).and_then(|at| before.get(at));
            Some(Sample {
                id,
                gauge: (before.map_or(*gauge, |(_, before)| *before), *gauge),
                in_flight: counts.in_flight,
            })
        });
        let drift = self.drifts.look(samples);
        if drift != self.last_drift {
            self.drift.publish(&drift);
            self.service.set_drift(drift.clone());
            self.last_drift = drift;
        }
    }
}
