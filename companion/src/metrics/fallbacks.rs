//! Requests that filters left to Envoy, summed up by service.
//!
//! A report has the count of its Envoy since that started. A sum over the Envoys that live would fall when one
//! leaves, which a scraper takes for a restart; so this adds up what each count grew by. Pure.

use std::collections::BTreeMap;

use unitring_protocol::ids::{ReporterId, ServiceName};

/// The sums, and the last count of each reporter.
#[derive(Debug, Default)]
pub(super) struct Fallbacks(BTreeMap<ServiceName, OfService>);

#[derive(Debug, Default)]
struct OfService {
    total: u64,
    last: BTreeMap<ReporterId, (u64, u64)>,
}

impl Fallbacks {
    /// Takes a report's count; it matters until `until_ms`. What a reporter counted before its first report to this
    /// companion is not added, since another companion may have.
    pub(super) fn took(
        &mut self,
        service: &ServiceName,
        reporter: &ReporterId,
        count: u64,
        until_ms: u64,
    ) {
        if !self.0.contains_key(service) {
            self.0.insert(service.clone(), OfService::default());
        }
        let Some(of) = self.0.get_mut(service) else {
            return;
        };
        let before = of.last.insert(reporter.clone(), (count, until_ms));
        let grown = before.map_or(0, |(before, _)| count.saturating_sub(before));
        of.total = of.total.saturating_add(grown);
    }

    /// The sums. Reporters that are forgotten by now are dropped, and services without any.
    pub(super) fn totals(&mut self, now_ms: u64) -> Vec<(ServiceName, u64)> {
        self.0.retain(|_, of| {
            of.last.retain(|_, (_, until_ms)| now_ms < *until_ms);
            !of.last.is_empty()
        });
        let totals = self
            .0
            .iter()
            .map(|(service, of)| (service.clone(), of.total));
        totals.collect()
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
        fallbacks.took(&service, &one, 100, 10);
        fallbacks.took(&service, &two, 7, 20);
        assert_eq!(fallbacks.totals(5), [(service.clone(), 0)]);
        fallbacks.took(&service, &one, 103, 10);
        fallbacks.took(&service, &two, 9, 20);
        assert_eq!(fallbacks.totals(5), [(service.clone(), 5)]);
        // The first is gone; then the second started anew.
        assert_eq!(fallbacks.totals(15), [(service.clone(), 5)]);
        fallbacks.took(&service, &two, 1, 20);
        fallbacks.took(&service, &two, 4, 20);
        assert_eq!(fallbacks.totals(15), [(service.clone(), 8)]);
        assert_eq!(fallbacks.totals(20), []);
    }
}
