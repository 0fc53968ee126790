//! The weights of the hosts of a ring, and loads compared by weight.

use std::cmp::Ordering;

/// The weights of the hosts of a ring, and which hosts requests can be sent to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights {
    pub(super) each: Vec<u64>,
    sum: u64,
    /// Whether each host is barred, so that no request is sent to it; empty if none is.
    barred: Vec<bool>,
    usable: usize,
}

impl FromIterator<u64> for Weights {
    fn from_iter<I: IntoIterator<Item = u64>>(weights: I) -> Self {
        let each: Vec<u64> = weights.into_iter().collect();
        let sum = each.iter().fold(0u64, |sum, w| sum.saturating_add(*w));
        Self {
            usable: each.len(),
            each,
            sum,
            barred: Vec::new(),
        }
    }
}

impl Weights {
    /// Scales the weights so that their hosts together have this part, in percent, of all requests.
    #[must_use]
    pub fn of_percent(mut self, percent: u32) -> Self {
        let (part, all) = (u64::from(percent.min(100)), 100);
        if part < all {
            for weight in &mut self.each {
                *weight = weight.saturating_mul(part);
            }
            self.sum = self.sum.saturating_mul(all);
        }
        self
    }

    /// Bars hosts that requests cannot be sent to; their weights still count.
    #[must_use]
    pub fn without(mut self, barred: Vec<bool>) -> Self {
        let count = barred.iter().filter(|barred| **barred).count();
        self.usable = self.each.len().saturating_sub(count);
        self.barred = if count == 0 { Vec::new() } else { barred };
        self
    }

    /// How many hosts there are.
    pub(super) fn hosts(&self) -> usize {
        self.each.len()
    }

    /// How many hosts requests can be sent to.
    #[inline]
    pub(super) fn usable(&self) -> usize {
        self.usable
    }

    /// Whether requests can be sent to a host.
    #[inline]
    pub fn can_use(&self, host: usize) -> bool {
        self.barred.get(host) != Some(&true)
    }

    /// The weight of a host, and the sum of all weights.
    #[inline]
    pub fn of(&self, host: usize) -> (u64, u64) {
        (self.each.get(host).copied().unwrap_or(0), self.sum)
    }

    /// A load that compares with those of other hosts by weight.
    #[inline]
    pub(super) fn relative(&self, host: usize, in_flight: u64) -> Relative {
        let (weight, _) = self.of(host);
        Relative {
            in_flight,
            weight: weight.max(1),
        }
    }
}

/// A load divided by its weight: a fraction, compared without a division.
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
