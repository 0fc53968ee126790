//! The counters of an instance, and their growth from a reporter's last report to this one. Pure.
//!
//! Counters of a report are totals since that Envoy started. Only their growth is added to the companion's own,
//! so a report that is repeated or lost adds nothing twice.

use std::collections::BTreeMap;

use unitring_protocol::ids::InstanceId;
use unitring_protocol::report::InstanceLoad;

use super::StoredLoad;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Attempts sent to it.
    pub calls: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Data updates that it announced.
    pub updates: u64,
    /// Bytes of their values.
    pub update_bytes: u64,
    /// Announcements that were refused.
    pub updates_refused: u64,
    /// Updates that did not reach the companion in time.
    pub updates_dropped: u64,
}

impl Totals {
    /// The counters of a report.
    pub fn reported(load: &InstanceLoad) -> Self {
        Self {
            calls: load.calls,
            failures: load.failures,
            updates: load.updates,
            update_bytes: load.update_bytes,
            updates_refused: load.updates_refused,
            updates_dropped: load.updates_dropped,
        }
    }

    /// Each counter with the name by which it is stored.
    pub fn named(self) -> [(&'static str, u64); 6] {
        [
            ("calls", self.calls),
            ("failures", self.failures),
            ("updates", self.updates),
            ("update_bytes", self.update_bytes),
            ("updates_refused", self.updates_refused),
            ("updates_dropped", self.updates_dropped),
        ]
    }

    /// Sets the counter of this name. One that only a later companion knows is passed over.
    pub fn set(&mut self, name: &str, count: u64) {
        match name {
            "calls" => self.calls = count,
            "failures" => self.failures = count,
            "updates" => self.updates = count,
            "update_bytes" => self.update_bytes = count,
            "updates_refused" => self.updates_refused = count,
            "updates_dropped" => self.updates_dropped = count,
            _ => {}
        }
    }

    /// Each counter added, staying at the top rather than wrapping.
    pub fn plus(self, more: Self) -> Self {
        self.each(more, u64::saturating_add)
    }

    /// The growth of each counter since `before`. A counter that shrank started again, so all of it is growth.
    fn since(self, before: Self) -> Self {
        self.each(before, |now, before| now.checked_sub(before).unwrap_or(now))
    }

    fn each(self, other: Self, of: fn(u64, u64) -> u64) -> Self {
        Self {
            calls: of(self.calls, other.calls),
            failures: of(self.failures, other.failures),
            updates: of(self.updates, other.updates),
            update_bytes: of(self.update_bytes, other.update_bytes),
            updates_refused: of(self.updates_refused, other.updates_refused),
            updates_dropped: of(self.updates_dropped, other.updates_dropped),
        }
    }
}

/// The growth of each instance's counters since the reporter's last report; instances that did not grow are
/// absent.
pub(super) fn growth(
    last: Option<&StoredLoad>,
    instances: &[InstanceLoad],
) -> BTreeMap<InstanceId, Totals> {
    let mut before: BTreeMap<&InstanceId, Totals> = BTreeMap::new();
    for load in last.into_iter().flat_map(|last| &last.instances) {
        // If an instance occurs twice, its first entry has the counts.
        before
            .entry(&load.id)
            .or_insert_with(|| Totals::reported(load));
    }
    let mut growth: BTreeMap<InstanceId, Totals> = BTreeMap::new();
    for load in instances {
        let before = before.remove(&load.id).unwrap_or_default();
        let grown = Totals::reported(load).since(before);
        if grown != Totals::default() {
            growth.insert(load.id.clone(), grown);
        }
    }
    growth
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loads::samples;

    #[test]
    fn each_counter_is_stored_and_read_by_its_own_name() {
        let counts = Totals {
            calls: 1,
            failures: 2,
            updates: 3,
            update_bytes: 4,
            updates_refused: 5,
            updates_dropped: 6,
        };
        let mut read = Totals::default();
        for (name, count) in counts.named() {
            read.set(name, count);
        }
        read.set("of a later companion", 7);
        assert_eq!(read, counts);
    }

    #[test]
    fn each_counter_grows_alone_and_one_that_shrank_started_again() {
        let load = |updates: [u64; 4]| {
            let mut load = samples::instance("10.0.0.1:80");
            (load.updates, load.update_bytes) = (updates[0], updates[1]);
            (load.updates_refused, load.updates_dropped) = (updates[2], updates[3]);
            load
        };
        let last = samples::stored("e1", vec![load([5, 500, 2, 9])]);
        let grown = growth(Some(&last), &[load([7, 650, 2, 4])]);
        let expected = Totals {
            updates: 2,
            update_bytes: 150,
            updates_dropped: 4,
            ..Totals::default()
        };
        assert_eq!(grown["10.0.0.1:80"], expected);
        assert!(growth(Some(&last), &[load([5, 500, 2, 9])]).is_empty());
    }
}
