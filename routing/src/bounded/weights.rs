//! The weights of the hosts of a ring, and loads that are compared by them.

use std::cmp::Ordering;

/// The weights of the hosts of a ring.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights {
    pub(super) each: Vec<u64>,
    sum: u64,
}

impl FromIterator<u64> for Weights {
    fn from_iter<I: IntoIterator<Item = u64>>(weights: I) -> Self {
        let each: Vec<u64> = weights.into_iter().collect();
        let sum = each.iter().fold(0u64, |sum, w| sum.saturating_add(*w));
        Self { each, sum }
    }
}

impl Weights {
    pub(super) fn hosts(&self) -> usize {
        self.each.len()
    }

    /// The weight of one, and of all.
    #[inline]
    pub fn of(&self, host: usize) -> (u64, u64) {
        (self.each.get(host).copied().unwrap_or(0), self.sum)
    }

    /// A load as it compares with those of other hosts.
    #[inline]
    pub(super) fn relative(&self, host: usize, in_flight: u64) -> Relative {
        let (weight, _) = self.of(host);
        Relative {
            in_flight,
            weight: weight.max(1),
        }
    }
}

/// A load for its weight: a fraction, compared without a division.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relative {
    in_flight: u64,
    weight: u64,
}

impl Ord for Relative {
    fn cmp(&self, other: &Self) -> Ordering {
        let product = |load: &Self, weight| u128::from(load.in_flight) * u128::from(weight);
        product(self, other.weight).cmp(&product(other, self.weight))
    }
}

impl PartialOrd for Relative {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Relative {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Relative {}
