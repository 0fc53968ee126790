//! `ejection` and `slow_start`: when an instance is left out, and how it comes back.

use std::num::NonZeroU32;
use std::time::Duration;

use unitring_routing::membership::Warmth;

use super::INTERVAL_MAX;
use super::reader::{Section, SettingsError};

/// When an instance is ejected for what it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// So many gateway failures in a row.
    pub consecutive_failures: NonZeroU32,
    /// How long the first time; each further time twice as long.
    pub base: Duration,
    /// But never longer.
    pub max: Duration,
    /// No more of the service than this at once, in percent; one instance always may be.
    pub max_percent: u32,
}

/// How an instance comes, and comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowStart {
    /// How long it takes until all of its weight counts.
    pub window: Duration,
    /// What counts at first.
    pub start: Warmth,
}

/// `None` if nobody is ejected.
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

/// `None` if an instance has all of its weight at once.
pub(super) fn slow_start(mut section: Section) -> Result<Option<SlowStart>, SettingsError> {
    let window = section.duration("window", Duration::ZERO, Duration::ZERO..=INTERVAL_MAX);
    let percent = section.integer("start_percent", 10, 1..=100);
    section.finish()?;
    let start = u8::try_from(percent).ok().and_then(Warmth::new);
    let start = start.unwrap_or(Warmth::FULL);
    Ok((!window.is_zero()).then_some(SlowStart { window, start }))
}
