//! `capture`: what becomes of the data updates that answers announce.

use std::time::Duration;

use unitring_protocol::record::VALUE_BYTES_MAX;

use super::reader::{Section, SettingsError};
use super::{INTERVAL_MAX, INTERVAL_MIN};
use crate::capture::queue::Bounds;
use crate::json::Json;

/// How the data updates that answers announce are handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// Whether they are counted and handed over, and how.
    pub mode: CaptureMode,
    /// The largest body that becomes a value, in bytes.
    pub body_bytes_max: usize,
    /// How many updates may wait in a worker, and how many bytes.
    pub queue: Bounds,
    /// How long an answer waits for its updates, and a batch for the companion.
    pub timeout: Duration,
}

/// Whether updates are counted and handed over, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureMode {
    /// Neither.
    Off,
    /// They are counted.
    Count,
    /// They are counted and handed over; the answer does not wait.
    Async,
    /// They are counted and handed over; the answer waits until they are stored.
    Sync,
}

impl CaptureMode {
    /// Whether updates go to the companion.
    pub fn hands_over(self) -> bool {
        matches!(self, Self::Async | Self::Sync)
    }
}

pub(super) fn read(mut section: Section, has_companion: bool) -> Result<Capture, SettingsError> {
    let modes = [
        ("off", CaptureMode::Off),
        ("count", CaptureMode::Count),
        ("async", CaptureMode::Async),
        ("sync", CaptureMode::Sync),
    ];
    let mode = section.word("mode", CaptureMode::Off, &modes);
    let value_max = u64::try_from(VALUE_BYTES_MAX).unwrap_or(u64::MAX);
    let body_bytes_max = section.integer("body_bytes_max", 65_536, 0..=value_max);
    let updates = section.integer("queue_max", 4_096, 1..=1_048_576);
    let bytes = section.integer("queue_bytes_max", 8 << 20, 65_536..=268_435_456);
    let timeout = section.duration(
        "timeout",
        Duration::from_secs(2),
        INTERVAL_MIN..=INTERVAL_MAX,
    );
    if mode.hands_over() && !has_companion {
        let word = modes.iter().find(|(_, each)| *each == mode);
        let value = Json::from(word.map_or("", |(word, _)| *word));
        let rule = "needs a companion: companion.cluster must not be empty";
        return Err(section.error("mode", &value, rule));
    }
    if body_bytes_max > bytes {
        let value = Json::from(body_bytes_max);
        let rule = "must be at most capture.queue_bytes_max";
        return Err(section.error("body_bytes_max", &value, rule));
    }
    section.finish()?;
    let whole = |number| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(Capture {
        mode,
        body_bytes_max: whole(body_bytes_max),
        queue: Bounds {
            updates: whole(updates),
            bytes: whole(bytes),
        },
        timeout,
    })
}
