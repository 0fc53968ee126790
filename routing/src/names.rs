//! A list of names → the positions of each name.
//!
//! The index behind every look-up by name that lasts no longer than a call. One type serves all
//! lists, filled by one function that is the same for all: each further kind of map would add
//! kilobytes to the filter.

use std::collections::BinaryHeap;

use crate::hash::xxh64;

/// The names of a list with their positions, in order of name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names<'a>(Vec<(&'a str, usize)>);

impl<'a> Names<'a> {
    /// The index of a list; a name may occur more than once. O(n log n).
    pub fn of(list: impl IntoIterator<Item = &'a str>) -> Self {
        Self::fill(&mut list.into_iter())
    }

    fn fill(list: &mut dyn Iterator<Item = &'a str>) -> Self {
        // A heap takes twice as long as `sort`, 4 ms for 16,384 names, and a tenth of its code.
        let names = list.enumerate().map(|(at, name)| (name, at));
        Self(names.collect::<BinaryHeap<_>>().into_sorted_vec())
    }

    /// The last position of a name. O(log n).
    pub fn last(&self, name: &str) -> Option<usize> {
        self.all(name).last().map(|(_, at)| *at)
    }

    /// The first position of a name. O(log n).
    pub fn first(&self, name: &str) -> Option<usize> {
        self.all(name).first().map(|(_, at)| *at)
    }

    /// Whether the list has a name.
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// Whether a name occurs more than once.
    pub fn is_repeated(&self, name: &str) -> bool {
        self.all(name).len() > 1
    }

    /// All positions of a name, in order.
    pub fn places(&self, name: &str) -> impl Iterator<Item = usize> + '_ {
        self.all(name).iter().map(|(_, at)| *at)
    }

    /// Every name with its position, in order of name, then of position.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, usize)> + '_ {
        self.0.iter().copied()
    }

    /// Every name once, with its last position, in order of name.
    pub fn each(&self) -> impl Iterator<Item = (&'a str, usize)> + '_ {
        let same = self.0.chunk_by(|(a, _), (b, _)| a == b);
        same.filter_map(|places| places.last().copied())
    }

    fn all(&self, name: &str) -> &[(&'a str, usize)] {
        let from = self.0.partition_point(|(other, _)| *other < name);
        let rest = self.0.get(from..).unwrap_or_default();
        let count = rest.partition_point(|(other, _)| *other == name);
        rest.get(..count).unwrap_or_default()
    }
}

/// Whether a name may occur more than once. `false` is certain; `true` is wrong only if two names
/// share a hash. This costs a tenth of an index, for lists that hardly ever repeat a name.
pub fn may_repeat<'a>(list: impl IntoIterator<Item = &'a str>) -> bool {
    let names = list.into_iter();
    // Pairs, like the points of a ring, so that one function sorts both.
    let mut hashes: Vec<(u64, u32)> = names.map(|name| (xxh64(name.as_bytes()), 0)).collect();
    hashes.sort_unstable();
    hashes.windows(2).any(|pair| match pair {
        [a, b] => a == b,
        _ => false,
    })
}

/// Like [`may_repeat`], for a list that was made from one that repeats no name: where few items are
/// new, only these are looked for.
pub(crate) fn may_repeat_after<T>(distinct: &[T], list: &[T], name: impl Fn(&T) -> &str) -> bool {
    const FEW: usize = 4;
    let (front, back) = common_ends(distinct, list, |a, b| name(a) == name(b));
    let new = list.get(front..list.len() - back).unwrap_or_default();
    if new.len() > FEW {
        return may_repeat(list.iter().map(name));
    }
    let times = |item| {
        list.iter()
            .filter(|other| name(other) == name(item))
            .count()
    };
    new.iter().any(|item| times(item) > 1)
}

/// How many items the lists have in common at their beginnings, and after these at their ends.
pub(crate) fn common_ends<A, B>(
    before: &[A],
    after: &[B],
    is_same: impl Fn(&A, &B) -> bool,
) -> (usize, usize) {
    let pairs = before.iter().zip(after);
    let front = pairs.take_while(|(a, b)| is_same(a, b)).count();
    let rest = (before.iter().skip(front), after.iter().skip(front));
    let pairs = rest.0.rev().zip(rest.1.rev());
    (front, pairs.take_while(|(a, b)| is_same(a, b)).count())
}

/// For each item of `after` the position of an item of `before` with its name. No position is
/// matched twice. Costs little if the lists differ in one stretch only.
pub(crate) fn matches<T>(
    before: &[T],
    after: &[T],
    name: impl Fn(&T) -> &str,
) -> Vec<Option<usize>> {
    let (front, back) = common_ends(before, after, |a, b| name(a) == name(b));
    let (old_end, new_end) = (before.len() - back, after.len() - back);
    let old = before.get(front..old_end).unwrap_or_default();
    let old = Names::of(old.iter().map(&name));
    let mut is_free = vec![true; old.0.len()];
    let stretch = after.get(front..new_end).unwrap_or_default();
    let stretch = stretch.iter().map(|item| {
        let place = old.last(name(item))?;
        std::mem::take(is_free.get_mut(place)?).then_some(front + place)
    });
    let (start, end) = ((0..front).map(Some), (old_end..before.len()).map(Some));
    start.chain(stretch).chain(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_found_at_its_first_and_its_last_place() {
        let names = Names::of(["b", "a", "b", "c"]);
        assert_eq!((names.first("b"), names.last("b")), (Some(0), Some(2)));
        assert_eq!((names.first("d"), names.last("")), (None, None));
        assert!(names.is_repeated("b") && !names.is_repeated("a"));
        assert!(may_repeat(["b", "a", "b"]) && !may_repeat(["b", "a"]));
        assert!(names.each().eq([("a", 1), ("b", 2), ("c", 3)]));
    }

    proptest! {
        #[test]
        fn a_place_is_the_one_that_a_walk_finds(
            list in prop::collection::vec("[ab]{0,2}", 0..12),
            name in "[abc]{0,2}",
        ) {
            let names = Names::of(list.iter().map(String::as_str));
            let walk = list.iter().position(|other| *other == name);
            prop_assert_eq!(names.first(&name), walk);
            prop_assert_eq!(names.last(&name), list.iter().rposition(|other| *other == name));
            prop_assert_eq!(names.has(&name), walk.is_some());
        }

        #[test]
        fn each_name_is_matched_with_one_of_its_places(
            before in prop::collection::vec("[ab]{0,2}", 0..12),
            after in prop::collection::vec("[ab]{0,2}", 0..12),
        ) {
            let matched = matches(&before, &after, |name| name);
            prop_assert_eq!(matched.len(), after.len());
            for (place, name) in matched.iter().zip(&after) {
                prop_assert!(place.is_none_or(|place| before[place] == *name));
            }
            let mut places: Vec<usize> = matched.into_iter().flatten().collect();
            places.sort();
            let count = places.len();
            places.dedup();
            prop_assert_eq!(places.len(), count);
        }

        #[test]
        fn a_list_made_from_distinct_names_repeats_what_a_walk_finds(
            distinct in prop::collection::btree_set("[a-d]{1,2}", 0..12),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
            come in prop::collection::vec((any::<prop::sample::Index>(), "[a-e]{1,2}"), 0..6),
        ) {
            let distinct: Vec<String> = distinct.into_iter().collect();
            let mut list = distinct.clone();
            for at in gone {
                if !list.is_empty() {
                    list.remove(at.index(list.len()));
                }
            }
            for (at, name) in come {
                list.insert(at.index(list.len() + 1), name);
            }
            let walk = (1..list.len()).any(|at| list[..at].contains(&list[at]));
            prop_assert_eq!(may_repeat_after(&distinct, &list, |name| name), walk);
        }
    }
}
