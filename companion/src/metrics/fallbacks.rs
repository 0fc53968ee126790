//! Requests that filters left to Envoy, summed up by service.
//!
//! A report has the count of its Envoy since that started. A sum over the live Envoys would fall when one
//! leaves, which a scraper takes for a restart; so this adds up the growth of each count. Pure.

use std::collections::BTreeMap;

use unitring_protocol::ids::{ReporterId, ServiceName};

/// How often forgotten counts are dropped while no scraper asks.
const PRUNED_EVERY_MS: u64 = 10_000;

/// The sums, and the last count of each reporter.
#[derive(Debug, Default)]
pub(super) struct Fallbacks {
    services: BTreeMap<ServiceName, OfService>,
    pruned_ms: u64,
}

#[derive(Debug, Default)]
struct OfService {
    total: u64,
    /// The count of each reporter, and until when it matters.
    last: BTreeMap<ReporterId, (u64, u64)>,
}

impl Fallbacks {
    /// Takes a report's count at a time, which matters until another time. Requests that a reporter counted before its
    /// first report to this companion are not added.
    pub(super) fn took(
        &mut self,
        service: &ServiceName,
        reporter: &ReporterId,
        count: u64,
        (now_ms, until_ms): (u64, u64),
    ) {
        if self.pruned_ms.abs_diff(now_ms) >= PRUNED_EVERY_MS {
            self.prune(now_ms);
        }
        if !self.services.contains_key(service) {
            self.services.insert(service.clone(), OfService::default());
        }
        let Some(of) = self.services.get_mut(service) else {
            return;
        };
        let before = of.last.insert(reporter.clone(), (count, until_ms));
        let grown = before.map_or(0, |(before, _)| count.saturating_sub(before));
        of.total = of.total.saturating_add(grown);
    }

    pub(super) fn totals(&mut self, now_ms: u64) -> Vec<(ServiceName, u64)> {
        self.prune(now_ms);
        let all = self.services.iter();
        all.map(|(service, of)| (service.clone(), of.total))
            .collect()
    }

    /// Drops reporters that do not matter any more, and services without any.
    fn prune(&mut self, now_ms: u64) {
        self.pruned_ms = now_ms;
        self.services.retain(|_, of| {
            of.last.retain(|_, (_, until_ms)| now_ms < *until_ms);
            !of.last.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_reporter_grew_by_is_added_and_stays_when_one_leaves() {
        let mut fallbacks = Fallbacks::default();
        let service: ServiceName = "orders".parse().unwrap();
        let [one, two]: [ReporterId; 2] = ["e1", "e2"].map(|id| id.parse().unwrap());
        fallbacks.took(&service, &one, 100, (1, 10));
        fallbacks.took(&service, &two, 7, (1, 20));
        assert_eq!(fallbacks.totals(5), [(service.clone(), 0)]);
        fallbacks.took(&service, &one, 103, (1, 10));
        fallbacks.took(&service, &two, 9, (1, 20));
        assert_eq!(fallbacks.totals(5), [(service.clone(), 5)]);
        // The first reporter is gone; then the second one restarts.
        assert_eq!(fallbacks.totals(15), [(service.clone(), 5)]);
        fallbacks.took(&service, &two, 1, (1, 20));
        fallbacks.took(&service, &two, 4, (1, 20));
        assert_eq!(fallbacks.totals(15), [(service.clone(), 8)]);
        assert_eq!(fallbacks.totals(20), []);
    }

    #[test]
    fn reporters_that_come_and_go_are_forgotten_although_nobody_scrapes() {
        let mut fallbacks = Fallbacks::default();
        for number in 0..1_000_u64 {
            let reporter = format!("e{number}").parse().unwrap();
            let (service, now_ms) = ("orders".parse().unwrap(), number * 1_000);
            fallbacks.took(&service, &reporter, 1, (now_ms, now_ms + 5_000));
        }
        let kept: usize = fallbacks.services.values().map(|of| of.last.len()).sum();
        assert!(kept <= 20, "{kept}");
    }
}
