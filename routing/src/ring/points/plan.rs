//! Hosts before and after → which points stay, which go and which are new.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Point, index, whole};
use crate::hash::HashFunction;
use crate::names::Names;
use crate::ring::Host;

/// The difference between two rings.
pub(super) struct Plan {
    /// The new index of each old host; `None` if the host is gone.
    renamed: Vec<Option<u32>>,
    /// New points, with the new index of their host, in order.
    pub(super) added: Vec<(u64, u32)>,
    /// Points that go although their host stays, with the old index of their host, in order.
    dropped: Vec<(u64, u32)>,
}

/// Points that stay, and the lower halves of their hashes.
pub(super) struct Kept<'a> {
    pub(super) points: Cow<'a, [Point]>,
    pub(super) lows: Cow<'a, [u32]>,
}

impl Plan {
    pub(super) fn new(
        had: &[u32],
        before: &[Host<'_>],
        after: &[Host<'_>],
        counts: &[u32],
        hash: HashFunction,
    ) -> Self {
        let old = Names::of(before.iter().map(|host| host.name));
        let mut plan = Self {
            renamed: vec![None; before.len()],
            added: Vec::new(),
            dropped: Vec::new(),
        };
        for ((new, host), count) in (0u32..).zip(after).zip(counts) {
            // A name that occurs twice keeps the points of one host only.
            let kept = old.last(host.name).filter(|at| {
                let place = plan.renamed.get_mut(*at);
                place.is_some_and(|place| place.is_none() && place.replace(new).is_none())
            });
            let kept = kept.and_then(|at| Some((u32::try_from(at).ok()?, *had.get(at)?)));
            let (number, had) = kept.unwrap_or((0, 0));
            let numbered = |numbers, host_index: u32, points: &mut Vec<(u64, u32)>| {
                push_points(host.name, hash, numbers, |hash| {
                    points.push((hash, host_index));
                });
            };
            numbered(had..*count, new, &mut plan.added);
            numbered(*count..had, number, &mut plan.dropped);
        }
        plan.added.sort_unstable();
        plan.dropped.sort_unstable();
        plan
    }

    /// The old points that stay, with the new indexes of their hosts.
    pub(super) fn kept<'a>(&self, points: &'a [Point], lows: &'a [u32]) -> Kept<'a> {
        let is_same = |(old, new): (u32, &Option<u32>)| *new == Some(old);
        if self.dropped.is_empty() && (0u32..).zip(&self.renamed).all(is_same) {
            return Kept {
                points: points.into(),
                lows: lows.into(),
            };
        }
        let mut dropped = self.dropped.iter().copied().peekable();
        let mut is_dropped = |point: &Point, low| {
            let this = (whole(point.high, low), point.host);
            dropped.peek().is_some() && dropped.next_if_eq(&this).is_some()
        };
        let (mut kept, mut kept_lows) = (
            Vec::with_capacity(points.len()),
            Vec::with_capacity(lows.len()),
        );
        for (point, low) in points.iter().zip(lows) {
            if let Some(Some(host)) = self.renamed.get(index(point.host)).copied()
                && !is_dropped(point, *low)
            {
                kept.push(Point { host, ..*point });
                kept_lows.push(*low);
            }
        }
        Kept {
            points: kept.into(),
            lows: kept_lows.into(),
        }
    }

    /// Whether the hosts that stay keep their order.
    pub(super) fn keeps_order(&self) -> bool {
        self.renamed.iter().flatten().is_sorted()
    }
}

/// The points of one host: the hashes of `<name>_<number>`.
fn push_points(
    name: &str,
    hash: HashFunction,
    numbers: std::ops::Range<u32>,
    mut push: impl FnMut(u64),
) {
    if numbers.is_empty() {
        return;
    }
    let mut text = String::with_capacity(name.len() + 11);
    text.push_str(name);
    text.push('_');
    let prefix = text.len();
    for number in numbers {
        text.truncate(prefix);
        // Writing to a string cannot fail.
        if write!(text, "{number}").is_ok() {
            push(hash.hash(text.as_bytes()));
        }
    }
}
