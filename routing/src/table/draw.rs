//! A key → the priority that it falls to (`choosePriority` in Envoy's `load_balancer_impl.cc`).

use super::level::Level;

/// How many of 100 draws fall to each level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Draw {
    /// The last draw, 1 to 100, of each step with the index of its level. Steps are in Envoy's
    /// order: the healthy shares of all priorities, then the degraded ones.
    steps: Vec<(u64, usize)>,
}

impl Draw {
    pub(super) fn of(levels: &[Level]) -> Self {
        let healthy = levels.iter().map(|level| level.load.healthy).enumerate();
        let degraded = levels.iter().map(|level| level.load.degraded).enumerate();
        let mut upto = 0;
        let mut steps: Vec<(u64, usize)> = Vec::new();
        for (place, share) in healthy.chain(degraded).filter(|(_, share)| *share > 0) {
            upto += u64::from(share);
            match steps.last_mut() {
                Some((end, last)) if *last == place => *end = upto,
                _ => steps.push((upto, place)),
            }
        }
        Self { steps }
    }

    /// The index of the level that a hash falls to.
    #[inline]
    pub(super) fn place(&self, hash: u64) -> Option<usize> {
        match self.steps.as_slice() {
            [(_, only)] => Some(*only),
            steps => Self::walk(steps, hash % 100 + 1),
        }
    }

    fn walk(steps: &[(u64, usize)], draw: u64) -> Option<usize> {
        let step = steps.iter().find(|(upto, _)| draw <= *upto);
        step.map(|(_, place)| *place)
    }

    /// The indexes of a draw's levels here and in `other`, with the part of all draws that have
    /// both, 0 to 1.
    pub(super) fn pairs_with(&self, other: &Self) -> Vec<(Option<usize>, Option<usize>, f64)> {
        let mut pairs: Vec<(Option<usize>, Option<usize>, u32)> = Vec::new();
        for hash in 0..100 {
            let (here, there) = (self.place(hash), other.place(hash));
            match pairs.iter_mut().find(|(a, b, _)| (*a, *b) == (here, there)) {
                Some((_, _, count)) => *count += 1,
                None => pairs.push((here, there, 1)),
            }
        }
        let parts = pairs.into_iter();
        parts
            .map(|(here, there, count)| (here, there, f64::from(count) / 100.0))
            .collect()
    }
}
