//! The key of a request: uniform over many keys, plus one hot key with a fixed share. Pure.

/// A seeded source of numbers (SplitMix64, Steele, Lea, Flood 2014): the same seed gives the same run.
#[derive(Debug, Clone)]
pub struct Numbers {
    state: u64,
}

impl Numbers {
    /// Starts with this seed.
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw().checked_rem(end).unwrap_or(0)
    }

    /// A random element of the list.
    pub fn pick<T: Copy, const N: usize>(&mut self, list: &[T; N]) -> T {
        const { assert!(N > 0, "there is nothing to pick") };
        let end = u64::try_from(N).unwrap_or(u64::MAX);
        let at = usize::try_from(self.below(end)).unwrap_or(0);
        list.get(at).copied().unwrap_or(list[0])
    }

    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            let span = u64::try_from(end + 1).unwrap_or(u64::MAX);
            let other = usize::try_from(self.below(span)).unwrap_or(end);
            list.swap(end, other);
        }
    }
}

/// The keys of a load.
#[derive(Debug, Clone)]
pub struct Keys {
    /// The number of keys that share the requests without the hot key.
    pub count: u64,
    /// Percentage of the requests that have the hot key.
    pub hot_percent: u64,
}

pub const HOT_KEY: &str = "user-hot";

impl Keys {
    /// This many keys with equal shares.
    pub fn uniform(count: u64) -> Self {
        Self {
            count,
            hot_percent: 0,
        }
    }

    /// The key of the next request.
    pub fn draw(&self, numbers: &mut Numbers) -> String {
        if numbers.below(100) < self.hot_percent {
            HOT_KEY.to_owned()
        } else {
            format!("user-{}", numbers.below(self.count))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_hot_key_has_its_share_and_the_others_are_all_drawn() {
        let keys = Keys {
            count: 50,
            hot_percent: 30,
        };
        let mut numbers = Numbers::seeded(1);
        let drawn: Vec<String> = (0..10_000).map(|_| keys.draw(&mut numbers)).collect();
        let hot = drawn.iter().filter(|key| *key == HOT_KEY).count();
        assert!((2_800..3_200).contains(&hot), "{hot} of 10000");
        assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), 51);
    }

    #[test]
    fn the_same_seed_draws_the_same_keys() {
        let draw = |seed| {
            let mut numbers = Numbers::seeded(seed);
            let keys = Keys::uniform(1_000);
            (0..100)
                .map(|_| keys.draw(&mut numbers))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn a_shuffle_keeps_every_element() {
        let mut list: Vec<u32> = (0..20).collect();
        Numbers::seeded(3).shuffle(&mut list);
        assert_ne!(list, (0..20).collect::<Vec<_>>());
        list.sort_unstable();
        assert_eq!(list, (0..20).collect::<Vec<_>>());
    }
}
