//! `ejection`, `slow_start` and `health`: when an instance is left out, and how it comes back.

use std::num::NonZeroU32;
use std::time::Duration;

use unitring_routing::membership::Warmth;

use super::INTERVAL_MAX;
use super::reader::{Section, SettingsError};

/// When an instance is ejected for its gateway failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// Gateway failures in a row that eject it.
    pub consecutive_failures: NonZeroU32,
    /// Length of the first ejection. Each further one, without a passed trial in between, lasts twice
    /// as long.
    pub base: Duration,
    /// The longest ejection.
    pub max: Duration,
    /// The most instances of the service that are ejected at once, in percent. One always may be,
    /// unless this is 0.
    pub max_percent: u32,
}

/// How a new or recovered instance warms up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowStart {
    /// Time until its full weight counts.
    pub window: Duration,
    /// The part of its weight that counts at first.
    pub start: Warmth,
}

/// How health affects placement. A field that is not set follows the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// A priority with a lower percentage of usable instances may panic: it then uses all of them.
    pub panic_threshold: Option<u32>,
    /// In percent. A priority keeps its whole share while its healthy part times this is at least
    /// 100 %.
    pub overprovisioning_factor: Option<u32>,
    /// Whether the healthy part is counted by weight instead of by instances.
    pub weighted_priority_health: Option<bool>,
}

pub(super) fn health(mut section: Section) -> Result<Health, SettingsError> {
    let mut percent = |field, range| {
        let number = section.optional(field, range);
        number.and_then(|number| u32::try_from(number).ok())
    };
    let health = Health {
        panic_threshold: percent("panic_threshold", 0..=100),
        overprovisioning_factor: percent("overprovisioning_factor", 1..=1_000_000),
        weighted_priority_health: section.optional_boolean("weighted_priority_health"),
    };
    section.finish()?;
    Ok(health)
}

/// `None` if ejection is off.
pub(super) fn ejection(mut section: Section) -> Result<Option<Ejection>, SettingsError> {
    const FAILURES_MAX: u64 = 1_000_000;
    let failures = section.integer("consecutive_failures", 5, 0..=FAILURES_MAX);
    let hour = Duration::from_secs(3600);
    let least = Duration::from_millis(100);
    let base = section.duration("base", Duration::from_secs(5), least..=hour);
    let max = section.duration("max", base.max(Duration::from_secs(300)), base..=24 * hour);
    let max_percent = section.integer("max_percent", 50, 0..=100);
    section.finish()?;
    let consecutive_failures = u32::try_from(failures).ok().and_then(NonZeroU32::new);
    Ok(consecutive_failures.map(|consecutive_failures| Ejection {
        consecutive_failures,
        base,
        max,
        max_percent: u32::try_from(max_percent).unwrap_or(100),
    }))
}

/// `None` if slow start is off.
pub(super) fn slow_start(mut section: Section) -> Result<Option<SlowStart>, SettingsError> {
    let window = section.duration("window", Duration::ZERO, Duration::ZERO..=INTERVAL_MAX);
    let percent = section.integer("start_percent", 10, 1..=100);
    section.finish()?;
    let start = u8::try_from(percent).ok().and_then(Warmth::new);
    let start = start.unwrap_or(Warmth::FULL);
    Ok((!window.is_zero()).then_some(SlowStart { window, start }))
}
