//! How many requests an instance may have in flight.

use std::num::{NonZeroU32, NonZeroU64};

/// How many requests an instance may have in flight: a share of the current load, and a hard cap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bound {
    /// The capacity in percent of the fair share; settings allow no less than 100. `None` if no
    /// share limits an instance.
    pub balance_factor: Option<NonZeroU32>,
    /// Every instance may have this many, however little traffic there is.
    pub min_capacity: u64,
    /// No instance may have more, whatever its share; `None` for no cap.
    pub max_in_flight: Option<NonZeroU64>,
}

impl Bound {
    /// Whether every instance may have any number.
    #[inline]
    pub fn is_off(&self) -> bool {
        self.balance_factor.is_none() && self.max_in_flight.is_none()
    }

    /// What an instance may have in flight: `max(min_capacity, ceil(factor/100 · (total + 1) ·
    /// weight/weights))`, and no more than the cap. `total` is what the service has in flight; the
    /// `+ 1` is the request that is being placed.
    ///
    /// ```
    /// use unitring_routing::bounded::Bound;
    /// let bound = Bound { balance_factor: 125.try_into().ok(), ..Bound::default() };
    /// // 79 in flight over four equal instances: 1.25 · 80 / 4.
    /// assert_eq!(bound.capacity(79, (1, 4)), 25);
    /// let capped = Bound { max_in_flight: 10.try_into().ok(), ..bound };
    /// assert_eq!(capped.capacity(79, (1, 4)), 10);
    /// ```
    pub fn capacity(&self, total: u64, weight: (u64, u64)) -> u64 {
        let share = self.balance_factor.map_or(u64::MAX, |factor| {
            let (load, per_place) = shares(factor, total, weight);
            u64::try_from(load.div_ceil(per_place))
                .unwrap_or(u64::MAX)
                .max(self.min_capacity)
        });
        share.min(self.cap())
    }

    /// Whether an instance that has `in_flight`, with this request, is within its share. `total` is
    /// called only above `min_capacity`, since it costs the filter a call into Envoy.
    #[inline]
    pub(super) fn admits(
        &self,
        in_flight: u64,
        total: impl Fn() -> u64,
        weight: (u64, u64),
    ) -> bool {
        let Some(factor) = self.balance_factor else {
            return true;
        };
        if in_flight <= self.min_capacity {
            return true;
        }
        // `in_flight <= ceil(load / per_place)` without the division, which would cost more than
        // all else here.
        let (load, per_place) = shares(factor, total(), weight);
        u128::from(in_flight.saturating_sub(1)).saturating_mul(per_place) < load
    }

    /// The hard cap of every instance; `u64::MAX` if there is none.
    #[inline]
    pub(super) fn cap(&self) -> u64 {
        self.max_in_flight.map_or(u64::MAX, NonZeroU64::get)
    }
}

/// Two numbers whose quotient, rounded up, is the capacity from the share: the weighted load, and
/// its amount per place. Saturates instead of wrapping.
#[inline]
fn shares(factor: NonZeroU32, total: u64, (weight, weights): (u64, u64)) -> (u128, u128) {
    let load = u128::from(factor.get()) * (u128::from(total) + 1);
    (
        load.saturating_mul(u128::from(weight)),
        100 * u128::from(weights.max(1)),
    )
}
