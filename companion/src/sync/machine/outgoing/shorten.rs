//! Outboxes that are over their bound → how much of each stays.

use std::collections::BTreeMap;

use crate::store::Backlog;

/// How many ops each outbox keeps if they are over a bound: its share of nine tenths of the bound,
/// of ops and of bytes. One op stays to show that others are missing.
pub(super) fn shortened(waiting: &BTreeMap<u8, Backlog>, max: Backlog) -> Option<Vec<(u8, u64)>> {
    let sum = |of: fn(&Backlog) -> u64| waiting.values().map(of).sum::<u64>();
    let (ops, bytes) = (sum(|it| it.ops), sum(|it| it.bytes));
    if ops <= max.ops && bytes <= max.bytes {
        return None;
    }
    let share = |of: u64, max: u64, all: u64| {
        let share = u128::from(of) * u128::from(max) * 9 / 10 / u128::from(all.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    };
    let least = u64::from(max.ops > 0);
    let keep = waiting.iter().map(|(bucket, backlog)| {
        let by_ops = if ops > max.ops {
            share(backlog.ops, max.ops, ops)
        } else {
            backlog.ops
        };
        let by_bytes = if bytes > max.bytes {
            share(backlog.ops, max.bytes, bytes)
        } else {
            backlog.ops
        };
        (*bucket, by_ops.min(by_bytes).max(least))
    });
    Some(keep.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_is_bounded_in_ops_and_in_bytes() {
        let max = Backlog {
            ops: 100,
            bytes: 1_000,
        };
        let waiting = |ops, bytes| BTreeMap::from([(7, Backlog { ops, bytes })]);
        assert_eq!(shortened(&waiting(100, 1_000), max), None);
        assert_eq!(shortened(&waiting(200, 1_000), max), Some(vec![(7, 90)]));
        assert_eq!(shortened(&waiting(48, 4_000), max), Some(vec![(7, 10)]));
        // One op stays, however large it is.
        assert_eq!(shortened(&waiting(1, 4_000), max), Some(vec![(7, 1)]));
        let nobody = Backlog::default();
        assert_eq!(shortened(&waiting(5, 5), nobody), Some(vec![(7, 0)]));
    }
}
