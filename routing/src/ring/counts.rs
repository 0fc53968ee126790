//! The number of points of each host.

use std::num::NonZeroU32;

use super::{Host, POINTS_MAX, RingError, WEIGHT_UNIT};

/// `RingHashLoadBalancer::Ring` of Envoy 1.40 (`ring_hash_lb.cc`), in doubles as in Envoy, since
/// its rounding decides the number of points of each host.
#[inline(never)]
pub(super) fn envoy(hosts: &[Host<'_>], min_size: u64, max_size: u64) -> Vec<u32> {
    let shares = super::shares(hosts);
    let Some(least) = shares.iter().copied().reduce(f64::min) else {
        return Vec::new();
    };
    // Envoy's minimum starts at 1, also if the shares do not add up to 1 because a locality has none
    // of these hosts.
    let least = least.min(1.0);
    let scale = ((least * as_f64(min_size)).ceil() / least).min(as_f64(max_size.min(POINTS_MAX)));
    let (mut placed, mut target) = (0.0f64, 0.0f64);
    let count = |share: f64| {
        target += scale * share;
        // Envoy adds points one by one while there are fewer than the target.
        let end = target.ceil().max(placed);
        let count = end - placed;
        placed = end;
        as_u32(count)
    };
    shares.into_iter().map(count).collect()
}

/// Points by its own weight alone, at least one. The sum must not exceed `max_size`.
#[inline(never)]
pub(super) fn fixed(
    hosts: &[Host<'_>],
    virtual_nodes: NonZeroU32,
    max_size: u64,
) -> Result<Vec<u32>, RingError> {
    let each = u64::from(virtual_nodes.get());
    let counts = hosts
        .iter()
        .map(|host| each.saturating_mul(host.weight.get()).div_ceil(WEIGHT_UNIT));
    let points = counts.clone().fold(0, u64::saturating_add);
    let max_size = max_size.min(POINTS_MAX);
    if points > max_size {
        return Err(RingError::TooLarge { points, max_size });
    }
    Ok(counts
        .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
        .collect())
}

/// Exact below 2^53, which holds for every ring size and, in practice, every sum of weights.
#[expect(
    clippy::cast_precision_loss,
    reason = "Envoy computes in doubles, rounding included"
)]
pub(crate) fn as_f64(value: u64) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number from 0 to POINTS_MAX"
)]
fn as_u32(value: f64) -> u32 {
    value as u32
}
