//! Counts of data updates → how many requests in flight they count as, for each instance.
//!
//! An update may cost its instance work after the answer: an index, a cache, a disk. By Little's law
//! updates at a rate of λ a second, each of which takes w seconds, keep λ·w of them in the instance
//! at a time. `load.update_weight` is w.

use unitring_routing::names::Names;

/// Time between two looks.
const LOOK_MS: u64 = 1_000;

/// The counts that one VM remembers from one look to the next.
#[derive(Debug, Default)]
pub struct UpdateLoads {
    at_ms: u64,
    /// Id and count of each instance.
    counts: Vec<(String, u64)>,
    loads: Vec<(String, u64)>,
}

impl UpdateLoads {
    /// Whether it is time to look.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.at_ms.abs_diff(now_ms) >= LOOK_MS
    }

    /// The loads after this look; loads of 0 are absent. `weight` is in thousandths; `counts` has the updates of
    /// each instance since the process started.
    pub fn look(
        &mut self,
        weight: u64,
        counts: Vec<(String, u64)>,
        now_ms: u64,
    ) -> &[(String, u64)] {
        let Some(since_ms @ 1..) = now_ms.checked_sub(self.at_ms) else {
            // The clock was set back: no rate is known.
            (self.counts, self.at_ms) = (counts, now_ms);
            return &self.loads;
        };
        let before = Names::of(self.counts.iter().map(|(id, _)| id.as_str()));
        let last = Names::of(self.loads.iter().map(|(id, _)| id.as_str()));
        let value = |names: &Names<'_>, list: &[(String, u64)], id: &str| {
            let found = names.last(id).and_then(|at| list.get(at));
            found.map(|(_, value)| *value)
        };
        let loads = counts.iter().filter_map(|(id, count)| {
            // This VM has seen no updates of an instance that it did not know.
            let more = count.saturating_sub(value(&before, &self.counts, id)?);
            let now = weight.saturating_mul(more) / since_ms;
            // Half of the last rate, so that one batch of updates is no spike.
            let was = value(&last, &self.loads, id).unwrap_or(now);
            let load = now.saturating_add(was).div_ceil(2);
            // Halves alone would never reach 0.
            (load > 0 && (now > 0 || was > 1)).then(|| (id.clone(), load))
        });
        let loads = loads.collect();
        self.loads = loads;
        self.counts = counts;
        self.at_ms = now_ms;
        &self.loads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(a: u64, b: u64) -> Vec<(String, u64)> {
        vec![("a".to_owned(), a), ("b".to_owned(), b)]
    }

    fn look(
        loads: &mut UpdateLoads,
        counts: Vec<(String, u64)>,
        now_ms: u64,
    ) -> Vec<(String, u64)> {
        // 20 ms of work for each update.
        loads.look(20, counts, now_ms).to_vec()
    }

    #[test]
    fn by_littles_law_the_rate_times_the_work_is_in_the_instance() {
        let mut loads = UpdateLoads::default();
        assert_eq!(look(&mut loads, counts(7_000, 0), 10_000), []);
        assert!(!loads.is_due(10_999) && loads.is_due(11_000));
        // 500 a second, each for 20 ms.
        let ten = [("a".to_owned(), 10)];
        assert_eq!(look(&mut loads, counts(7_500, 0), 11_000), ten);
        assert_eq!(look(&mut loads, counts(8_500, 0), 13_000), ten);
        // Each look adds half of the change, and the load of silence goes to 0.
        let mut seen = Vec::new();
        for second in 14..20 {
            let now = look(&mut loads, counts(8_500, 0), second * 1_000);
            seen.push(now.first().map_or(0, |(_, load)| *load));
        }
        assert_eq!(seen, [5, 3, 2, 1, 0, 0]);
    }

    #[test]
    fn an_instance_that_is_new_or_starts_anew_counts_from_then_on() {
        let mut loads = UpdateLoads::default();
        look(&mut loads, vec![("a".to_owned(), 5_000)], 1_000);
        assert_eq!(look(&mut loads, counts(10, 900_000), 2_000), []);
        let b = [("b".to_owned(), 2)];
        assert_eq!(look(&mut loads, counts(10, 900_100), 3_000), b);
        // A clock that was set back changes nothing.
        let b = [("b".to_owned(), 2)];
        assert_eq!(look(&mut loads, counts(10, u64::MAX), 3_000), b);
        assert_eq!(look(&mut loads, counts(10, u64::MAX), 0), b);
    }
}
