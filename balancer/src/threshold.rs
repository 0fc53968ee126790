//! Loads → `overloaded` and `relieved` events, one for each crossing of a threshold: of requests in flight, or of data
//! updates a second.

use std::num::NonZeroU64;

use unitring_protocol::report::EventKind;
use unitring_routing::names::Names;

/// An overloaded instance is relieved below this percentage of the threshold. The gap keeps a load
/// that hovers around the threshold from raising an event each time.
const RELIEF_PERCENT: u64 = 80;

/// The instances that are over the threshold.
#[derive(Debug)]
pub struct Watch {
    threshold: NonZeroU64,
    over: Vec<String>,
}

impl Watch {
    /// An instance is overloaded with a load of more than `threshold`.
    pub fn new(threshold: NonZeroU64) -> Self {
        Self {
            threshold,
            over: Vec::new(),
        }
    }

    /// Returns the crossings since the last call. An instance that is absent from `loads` is
    /// forgotten.
    pub fn check<'a>(
        &mut self,
        loads: impl IntoIterator<Item = (&'a str, u64)>,
    ) -> Vec<(String, EventKind)> {
        let known = Names::of(self.over.iter().map(String::as_str));
        let mut still_over = Vec::new();
        let mut crossings = Vec::new();
        for (instance, load) in loads {
            let was_over = known.has(instance);
            let relief = u128::from(self.threshold.get()) * u128::from(RELIEF_PERCENT);
            let is_over = if was_over {
                u128::from(load) * 100 >= relief
            } else {
                load > self.threshold.get()
            };
            match (was_over, is_over) {
                (false, true) => crossings.push((instance.to_owned(), EventKind::Overloaded)),
                (true, false) => crossings.push((instance.to_owned(), EventKind::Relieved)),
                _ => {}
            }
            if is_over {
                still_over.push(instance.to_owned());
            }
        }
        self.over = still_over;
        crossings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crossing_is_told_once_and_relief_needs_a_clear_drop() {
        let mut watch = Watch::new(NonZeroU64::new(10).unwrap());
        let mut at = |load| watch.check([("a", load)]).first().map(|(_, kind)| *kind);
        assert_eq!(at(10), None);
        assert_eq!(at(11), Some(EventKind::Overloaded));
        assert_eq!(at(12), None);
        assert_eq!(at(8), None, "not clearly under it");
        assert_eq!(at(11), None);
        assert_eq!(at(7), Some(EventKind::Relieved));
        assert_eq!(at(7), None);
    }

    #[test]
    fn an_instance_that_left_is_forgotten() {
        let mut watch = Watch::new(NonZeroU64::new(1).unwrap());
        assert_eq!(watch.check([("a", 5)]).len(), 1);
        assert!(watch.check([]).is_empty());
        assert_eq!(watch.check([("a", 5)]).len(), 1);
    }
}
