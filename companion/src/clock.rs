//! The clocks of the process. Only this module reads them: code that decides by the time gets it as a value, so that a
//! test can choose it. `clippy.toml` forbids the clocks everywhere else.

#![expect(clippy::disallowed_methods, reason = "the clocks are read here")]

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::moment::Moment;

/// The wall clock.
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// The wall clock, in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    wall()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

/// The monotonic clock.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time since then by the monotonic clock.
pub(crate) fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// This moment by both; the monotonic time counts from the first call of the process.
pub(crate) fn moment() -> Moment {
    static STARTED: LazyLock<Instant> = LazyLock::new(now);
    Moment {
        now_ms: u64::try_from(since(*STARTED).as_millis()).unwrap_or(u64::MAX),
        wall_ms: now_ms(),
    }
}

/// The clock by which the runtime sleeps; a test can stop it.
pub(crate) fn timer() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
