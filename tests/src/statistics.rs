//! The statistics of all benchmarks: medians and quantiles.

use anyhow::{Context as _, Result};

/// The middle value; for an even number of values, the mean of the two in the middle.
///
/// # Errors
/// There are no values.
pub fn median(values: impl IntoIterator<Item = f64>) -> Result<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle).context("nothing was measured")?;
    if sorted.len() % 2 == 1 {
        return Ok(upper);
    }
    let lower = middle.checked_sub(1).and_then(|below| sorted.get(below));
    Ok(f64::midpoint(*lower.unwrap_or(&upper), upper))
}

/// The value within which this share of the sorted values lies: `0.99` for the 99th percentile. Nearest rank, so it
/// is one of the values. `None` without values.
pub fn quantile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let wanted = share.clamp(0.0, 1.0) * f64_of(sorted.len());
    let covers = |rank: usize| f64_of(rank + 1) >= wanted - 1e-9;
    let rank = (0..sorted.len()).find(|rank| covers(*rank))?;
    sorted.get(rank).copied()
}

/// Exact for any number of values that is measured here.
fn f64_of(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_two() {
        assert!((median([3.0, 1.0, 2.0]).unwrap() - 2.0).abs() < f64::EPSILON);
        assert!((median([4.0, 1.0]).unwrap() - 2.5).abs() < f64::EPSILON);
        assert!(median([]).is_err());
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let sorted: Vec<u32> = (1..=200).collect();
        let at = |share| quantile(&sorted, share).unwrap();
        assert_eq!((at(0.0), at(0.5), at(0.99), at(1.0)), (1, 100, 198, 200));
        assert_eq!(quantile::<u32>(&[], 0.5), None);
    }
}
