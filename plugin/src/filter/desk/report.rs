//! Reports to the companion, and its answers.

use std::rc::Rc;

use super::Desk;
use crate::filter::callout::Outgoing;
use unitring_balancer::balancer::Fleet;
use unitring_balancer::directory::{Entry, Shown};
use unitring_balancer::reporter::{Happening, Threshold, add_others, read_answer};
use unitring_balancer::wiring::{Kind, Mistake, REPORTS_FAILED_MAX};
use unitring_protocol::report::EventKind;

fn borrowed(loads: &[(String, u64)]) -> impl Iterator<Item = (&str, u64)> {
    loads.iter().map(|(id, load)| (id.as_str(), *load))
}

/// Without a companion, stats are exported this often; with one, with each report.
const EXPORT_MS: u64 = 1_000;

impl Desk {
    fn check_thresholds(&mut self, now_ms: u64) {
        let service = Rc::clone(&self.service);
        if let Some(watch) = &mut self.watch {
            let crossings = watch.check(borrowed(&service.fleet_loads()));
            self.note_crossings(Threshold::InFlight, crossings, now_ms);
        }
        if let Some(watch) = &mut self.update_watch {
            let crossings = watch.check(borrowed(&service.fleet_update_rates()));
            self.note_crossings(Threshold::Updates, crossings, now_ms);
        }
    }

    fn note_crossings(&mut self, of: Threshold, crossings: Vec<(String, EventKind)>, now_ms: u64) {
        let table = self.service.table();
        for (instance, kind) in crossings {
            self.note(Happening::crossing(of, &instance, kind, &table), now_ms);
        }
    }

    pub(super) fn report(&mut self, now_ms: u64) {
        if !self.reports.is_due(now_ms) {
            return;
        }
        self.check_thresholds(now_ms);
        let service = Rc::clone(&self.service);
        let companion = service.settings.companion.as_ref();
        if companion.is_none() && now_ms.abs_diff(self.exported_ms) < EXPORT_MS {
            return self.reporter.confirm(u64::MAX);
        }
        self.exported_ms = now_ms;
        let directory = service.directory();
        let entries = directory.entries().iter();
        let loads = entries.map(|entry| (&**entry, service.load_of(entry)));
        let loads: Vec<(&Entry, Shown)> = loads.collect();
        let in_flight = service.stats.in_flight.show(service.sides.get());
        self.exported.export(&service.stats, in_flight, &loads);
        let Some(companion) = companion else {
            // There is no companion to report to: crossings of the threshold are logged, and events
            // need not be kept.
            self.reporter.confirm(u64::MAX);
            return;
        };
        let fallbacks = service.stats.fallbacks();
        let table = service.table();
        let wiring = self.wiring.findings();
        let mut report = self.reporter.report(
            &service.settings,
            &table,
            loads.iter().copied(),
            fallbacks,
            wiring,
            now_ms,
        );
        let load_of = |entry: &Entry| service.shown(&entry.stat);
        let others = self.others.instances(&directory, load_of, now_ms);
        let others = others.iter().map(|(entry, shown)| (&**entry, *shown));
        add_others(&mut report, others);
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
            // Envoy says at once that it has no such cluster.
            self.reports_failed = REPORTS_FAILED_MAX;
            self.report_failed(&error);
        }
    }

    fn report_failed(&mut self, error: &str) {
        self.service.stats.report_failed.add(1);
        self.reports.log_outcome("report", Err(error));
        self.reports_failed = self.reports_failed.saturating_add(1);
        if self.reports_failed < REPORTS_FAILED_MAX {
            return;
        }
        let settings = &self.service.settings;
        let companion = settings.companion.as_ref();
        let cluster = companion.map_or("", |companion| companion.cluster.as_str());
        let mistake = Mistake::no_companion(error, cluster);
        self.wiring.set(Kind::CompanionCluster, Some(mistake));
    }

    pub(super) fn on_snapshot(&mut self, body: Result<Vec<u8>, String>, now_ms: u64) {
        let snapshot = body.and_then(|body| read_answer(&body).map_err(|error| error.to_string()));
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(error) => return self.report_failed(&error),
        };
        self.reports_failed = 0;
        self.wiring.set(Kind::CompanionCluster, None);
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
