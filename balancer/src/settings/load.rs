//! `load`: how many requests an instance may have in flight.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use unitring_routing::bounded::Bound;

use super::reader::{Section, SettingsError};
use super::{INTERVAL_MAX, INTERVAL_MIN};
use crate::json::Json;

/// How many requests an instance may have in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// The balance factor, the minimum and the hard cap.
    pub bound: Bound,
    /// Which Envoys' requests count.
    pub scope: Scope,
    /// A snapshot older than this counts as no fleet.
    pub stale_after: Duration,
    /// In-flight requests of an instance over which it is reported as overloaded.
    pub threshold: Option<NonZeroU64>,
    /// Data updates of an instance per 1,000 seconds, over the fleet, over which it is reported as overloaded.
    pub update_threshold: Option<NonZeroU64>,
    /// How many requests in flight one data update a second counts as, in thousandths: by Little's
    /// law, how many ms an update keeps an instance busy after its answer.
    pub update_weight: u64,
}

/// Upper limit of [`Load::total_lag`].
const TOTAL_LAG_MAX: u64 = 8;

impl Load {
    /// How many of a worker's in-flight requests the service's gauge may lack. The total only
    /// matters above `min_capacity`, so an eighth of that is a small error.
    pub fn total_lag(&self) -> i64 {
        let lag = (self.bound.min_capacity / 8).min(TOTAL_LAG_MAX);
        i64::try_from(lag).unwrap_or(0)
    }
}

/// Which Envoys' requests count towards the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// This Envoy process alone.
    Process,
    /// Every Envoy that reports to the companion.
    Fleet,
}

/// `interval` is the companion's: the fleet's load is never fresher than that.
pub(super) fn read(
    mut section: Section,
    interval: Option<Duration>,
) -> Result<Load, SettingsError> {
    let balance_factor = balance_factor(&mut section)?;
    let min_capacity = section.integer("min_capacity", 16, 0..=1_000_000);
    let scopes = [("process", Scope::Process), ("fleet", Scope::Fleet)];
    let scope = section.word("scope", Scope::Fleet, &scopes);
    let least = interval.unwrap_or(INTERVAL_MIN).max(INTERVAL_MIN);
    let usual = Duration::from_secs(5).max(least * 3).min(INTERVAL_MAX);
    let stale_after = section.duration("stale_after", usual, least..=INTERVAL_MAX);
    let max_in_flight = section.integer("max_in_flight", 0, 0..=1_000_000_000);
    let threshold = section.integer("threshold", 0, 0..=1_000_000_000);
    let update_threshold = section.integer("update_threshold", 0, 0..=1_000_000);
    let update_weight = section.thousandths("update_weight", 1_000);
    section.finish()?;
    Ok(Load {
        bound: Bound {
            balance_factor,
            min_capacity,
            max_in_flight: NonZeroU64::new(max_in_flight),
        },
        scope,
        stale_after,
        threshold: NonZeroU64::new(threshold),
        update_threshold: NonZeroU64::new(update_threshold.saturating_mul(1_000)),
        update_weight,
    })
}

/// 0 switches the bound off. Below 100 even the fair share would not fit.
fn balance_factor(section: &mut Section) -> Result<Option<NonZeroU32>, SettingsError> {
    const FACTOR_MAX: u64 = 100_000;
    let factor = section.integer("balance_factor", 125, 0..=FACTOR_MAX);
    if (1..100).contains(&factor) {
        let rule = format!("must be 0 (no bound) or a whole number from 100 to {FACTOR_MAX}");
        return Err(section.error("balance_factor", &Json::from(factor), rule));
    }
    Ok(u32::try_from(factor).ok().and_then(NonZeroU32::new))
}
