//! How many data updates a second an instance announces, from two reports of each reporter. Pure.
//!
//! Invariant: a rate needs two reports that name the instance, since the first does not say over which time its
//! counts grew. It counts as long as the reporter does.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use unitring_protocol::ids::InstanceId;

use super::{StoredLoad, Totals};

/// Updates per second, kept in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UpdateRate(u64);

impl UpdateRate {
    fn new(updates: u64, ms: u64) -> Self {
        let thousandths = u128::from(updates) * 1_000_000 / u128::from(ms.max(1));
        Self(u64::try_from(thousandths).unwrap_or(u64::MAX))
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }

    pub fn per_1000_seconds(self) -> u64 {
        self.0
    }

    /// As people are shown it, with one decimal.
    pub fn per_second(self) -> f64 {
        let tenths = self.0.saturating_add(50) / 100;
        f64::from(u32::try_from(tenths).unwrap_or(u32::MAX)) / 10.0
    }
}

/// The rates of one reporter's instances, from the growth of their counters over this many ms; rates of 0 are absent.
pub(super) fn of_reporter(
    last: Option<&StoredLoad>,
    growth: &BTreeMap<InstanceId, Totals>,
    ms: u64,
) -> BTreeMap<InstanceId, UpdateRate> {
    let mut grown = growth.iter().filter(|(_, growth)| growth.updates > 0);
    let (Some(last), Some(first)) = (last, grown.next()) else {
        return BTreeMap::new();
    };
    let known: BTreeSet<&InstanceId> = last.instances.iter().map(|load| &load.id).collect();
    let rates = std::iter::once(first)
        .chain(grown)
        .filter(|(id, _)| known.contains(id))
        .map(|(id, growth)| (id.clone(), UpdateRate::new(growth.updates, ms)));
    rates
        .filter(|(_, rate)| *rate > UpdateRate::default())
        .collect()
}

/// The rate of each instance over these reports.
pub(crate) fn of_instances<'a>(
    loads: impl IntoIterator<Item = &'a StoredLoad>,
) -> BTreeMap<&'a InstanceId, UpdateRate> {
    let mut rates: BTreeMap<&InstanceId, UpdateRate> = BTreeMap::new();
    for (id, rate) in loads.into_iter().flat_map(|load| &load.update_rates) {
        let sum = rates.entry(id).or_default();
        *sum = sum.plus(*rate);
    }
    rates
}

#[cfg(test)]
mod tests {
    use unitring_protocol::report::InstanceLoad;

    use super::*;
    use crate::loads::{advance, samples};

    const INSTANCE: &str = "10.0.0.1:80";

    /// Updates per second after a report at this moment with this many updates; `None` if it is an old one.
    fn step(
        last: &mut Option<StoredLoad>,
        (sequence, now_ms): (u64, u64),
        updates: u64,
    ) -> Option<f64> {
        let instance = InstanceLoad {
            updates,
            ..samples::instance(INSTANCE)
        };
        let report = samples::report(("e1", sequence), "orders", vec![instance], vec![]);
        let next = advance(last.as_ref(), &samples::load_report(&report), now_ms)?.next;
        let rates = of_instances([&next]);
        let rate = rates.values().next().copied().unwrap_or_default();
        *last = Some(next);
        Some(rate.per_second())
    }

    #[test]
    fn the_rate_is_the_growth_over_the_time_since_the_last_report() {
        let mut last = None;
        for (at, updates, rate) in [
            ((1, 10_000), 70, Some(0.0)),
            ((2, 12_000), 85, Some(7.5)),
            // The report was sent again, or is older.
            ((2, 12_500), 99, None),
            ((1, 12_500), 99, None),
            ((3, 13_000), 88, Some(3.0)),
            ((4, 14_000), 88, Some(0.0)),
            // Begun anew.
            ((5, 16_000), 4, Some(2.0)),
        ] {
            assert_eq!(step(&mut last, at, updates), rate, "{at:?}");
        }
        assert_eq!(last.unwrap().update_rates.len(), 1);
    }

    #[test]
    fn reports_that_arrive_close_together_are_no_burst() {
        let mut last = None;
        step(&mut last, (1, 10_000), 0);
        // Held up on the way, and the next one right behind it; or the clock was set back.
        assert_eq!(step(&mut last, (2, 10_000), 3), Some(3.0));
        assert_eq!(step(&mut last, (3, 10_001), 6), Some(3.0));
        assert_eq!(step(&mut last, (4, 9_000), 9), Some(3.0));
        assert_eq!(UpdateRate::new(5, 0), UpdateRate::new(5, 1));
        let most = UpdateRate::new(u64::MAX, 0);
        assert!(most.plus(most).per_second() > 400_000_000.0);
    }

    #[test]
    fn an_instance_that_a_report_names_anew_has_no_rate_yet() {
        let last = samples::stored("e1", vec![samples::instance("10.0.0.2:80")]);
        let growth = Totals {
            updates: 9,
            ..Totals::default()
        };
        let growth = BTreeMap::from([(INSTANCE.parse().unwrap(), growth)]);
        assert!(of_reporter(Some(&last), &growth, 1_000).is_empty());
        assert!(of_reporter(None, &growth, 1_000).is_empty());
    }

    #[test]
    fn what_all_reporters_say_adds_up_and_one_decimal_is_shown() {
        let load = |name: &str, rate| {
            let mut load = samples::stored(name, vec![]);
            load.update_rates = BTreeMap::from([(INSTANCE.parse().unwrap(), rate)]);
            load
        };
        let loads = [
            load("e1", UpdateRate::new(1, 3_000)),
            load("e2", UpdateRate::new(10, 3_000)),
        ];
        let rates = of_instances(&loads);
        let shown: Vec<f64> = rates.values().map(|rate| rate.per_second()).collect();
        assert_eq!(shown, [3.7]);
        assert!(of_instances(&[]).is_empty());
    }
}
