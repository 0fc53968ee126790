//! Durations as settings and flags say them: `250ms`, `5s`, `2m`, `1h`.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A duration as it is written in the configuration: `250ms`, `5s`, `2m`, `1h`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let unit = units
        .iter()
        .find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit));
    unit.map_or_else(
        || format!("{ms}ms"),
        |(unit, name)| format!("{}{name}", ms / unit),
    )
}

/// Parses `250ms`, `5s`, `2m` or `1h`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "ms" => number,
        "s" => number.checked_mul(1_000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    Some(Duration::from_millis(ms))
}

/// Any duration on the command line.
pub(crate) fn any_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text);
    duration.ok_or_else(|| "must be a number with ms, s, m or h, such as 15m".to_owned())
}

/// A duration on the command line, within bounds.
pub(crate) fn duration_within(
    text: &str,
    bounds: RangeInclusive<Duration>,
) -> Result<Duration, String> {
    let duration = any_duration(text)?;
    if bounds.contains(&duration) {
        return Ok(duration);
    }
    let (least, most) = (show_duration(*bounds.start()), show_duration(*bounds.end()));
    Err(format!("must be from {least} to {most}"))
}
