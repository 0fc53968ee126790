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
    }
}
