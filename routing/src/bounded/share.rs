//! The free capacity of an instance, divided among the processes that see it.
//!
//! A process knows the loads of the others from a snapshot that is a while old. If every process
//! took every place that is free in its snapshot, an instance would fill up as many times as there
//! are Envoys. So each process takes a part, in proportion to what it has there already plus one,
//! rounded so that all parts add up to exactly the free places. If the snapshot shows more than the
//! capacity, the excess is divided the same way, as places to give up.

/// One instance's load in a snapshot of the fleet, and this process's rank in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// In flight from this process, when the snapshot was taken.
    pub own: u64,
    /// In flight from all others.
    pub rest: u64,
    /// The part of `rest` from processes that come before this one in the common order.
    pub before: u64,
    /// How many processes come before this one.
    pub rank: u64,
    /// How many other processes there are.
    pub others: u64,
}

impl Share {
    /// How many requests this process may have in flight on an instance with this total `capacity`.
    ///
    /// ```
    /// use unitring_routing::bounded::Share;
    /// // Three processes with nothing in flight divide ten places.
    /// let of = |rank| Share { rank, others: 2, ..Share::default() }.allowance(10);
    /// assert_eq!([of(0), of(1), of(2)], [3, 3, 4]);
    /// // Without other processes nothing is divided.
    /// assert_eq!(Share { own: 4, ..Share::default() }.allowance(10), 10);
    /// ```
    pub fn allowance(&self, capacity: u64) -> u64 {
        let (own, before) = (u128::from(self.own), u128::from(self.before));
        let (capacity, seen) = (u128::from(capacity), own + u128::from(self.rest));
        let allowed = match capacity.checked_sub(seen) {
            Some(free) => {
                // Each process has one share more than requests, so that one without requests gets
                // a part, too.
                let first = before + u128::from(self.rank);
                let all = seen + u128::from(self.others) + 1;
                own.saturating_add(part(free, first, own + 1, all))
            }
            None => own.saturating_sub(part(seen - capacity, before, own, seen)),
        };
        u64::try_from(allowed).unwrap_or(u64::MAX)
    }
}

/// The part of `divided` for `count` of `all` shares, from share `first` on, rounded so that all
/// parts add up.
fn part(divided: u128, first: u128, count: u128, all: u128) -> u128 {
    let up_to = |share: u128| divided.saturating_mul(share.min(all)) / all.max(1);
    up_to(first + count).saturating_sub(up_to(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(loads: &[u64]) -> impl Iterator<Item = Share> + '_ {
        let sum: u64 = loads.iter().sum();
        loads.iter().enumerate().map(move |(rank, own)| Share {
            own: *own,
            rest: sum - own,
            before: loads[..rank].iter().sum(),
            rank: rank as u64,
            others: loads.len() as u64 - 1,
        })
    }

    proptest! {
        #[test]
        fn the_allowances_of_all_add_up_to_the_capacity(
            loads in prop::collection::vec(0u64..1_000, 1..50),
            capacity in 0u64..20_000,
        ) {
            let allowed: u64 = shares(&loads).map(|share| share.allowance(capacity)).sum();
            prop_assert_eq!(allowed, capacity);
        }

        #[test]
        fn no_numbers_overflow(own: u64, rest: u64, before: u64, rank: u64, others: u64, capacity: u64) {
            Share { own, rest, before, rank, others }.allowance(capacity);
        }

        #[test]
        fn nobody_gives_up_what_is_within_the_capacity(
            loads in prop::collection::vec(0u64..1_000, 1..50),
            free in 0u64..1_000,
        ) {
            let capacity = loads.iter().sum::<u64>() + free;
            for share in shares(&loads) {
                prop_assert!(share.allowance(capacity) >= share.own);
            }
        }
    }
}
