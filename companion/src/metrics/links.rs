//! The links to other units. Only the leader of a unit has them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use unitring_protocol::ids::UnitId;

use super::page::{Kind, Page};

/// The values of the link to a unit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ShownLink {
    /// Whether the link is up.
    pub is_up: bool,
    /// Ops that the broker confirmed for it.
    pub confirmed: u64,
    /// Ops that the peer has and this unit lacks, at the last comparison.
    pub missing_ops: Option<u64>,
    /// Buckets that differed then.
    pub diverged_buckets: Option<usize>,
    /// How far its clock is ahead of ours, in ms.
    pub clock_skew_ms: Option<i64>,
}

/// A value of a link, if it is known.
type LinkValue = fn(&ShownLink) -> Option<String>;

const FAMILIES: [(&str, &str, Kind, &str, LinkValue); 5] = [
    (
        "unit_link_up",
        "unit_link_up",
        Kind::Gauge,
        "1 while the link to the other unit is up",
        |link| Some(u8::from(link.is_up).to_string()),
    ),
    (
        "unit_ops_confirmed_total",
        "unit_confirmed_ops",
        Kind::Counter,
        "Ops that the broker confirmed for the other unit",
        |link| Some(link.confirmed.to_string()),
    ),
    (
        "unit_missing_ops",
        "unit_missing_ops",
        Kind::Gauge,
        "Ops that the other unit has and this unit lacks, at the last comparison",
        |link| Some(link.missing_ops?.to_string()),
    ),
    (
        "unit_diverged_buckets",
        "unit_diverged_buckets",
        Kind::Gauge,
        "Buckets that differed from the other unit's at the last comparison",
        |link| Some(link.diverged_buckets?.to_string()),
    ),
    (
        "unit_clock_skew_seconds",
        "unit_clock_skew_seconds",
        Kind::Gauge,
        "How far the clock of the other unit is ahead of this unit's, in seconds",
        |link| {
            let skew_ms = link.clock_skew_ms?;
            let sign = if skew_ms < 0 { "-" } else { "" };
            let skew = Duration::from_millis(skew_ms.unsigned_abs());
            Some(format!("{sign}{}", skew.as_secs_f64()))
        },
    ),
];

/// The families; there are at most [`crate::config::UNITS_MAX`] units.
pub(super) fn units(page: &mut Page, units: &BTreeMap<UnitId, ShownLink>) -> fmt::Result {
    for (name, _, kind, help, value) in FAMILIES {
        write(
            page,
            &format!("unitring_companion_{name}"),
            (kind, help),
            units,
            value,
        )?;
    }
    Ok(())
}

/// The same by the names that they had before.
pub(super) fn old(
    page: &mut Page,
    units: &BTreeMap<UnitId, ShownLink>,
    help: impl Fn(&str) -> String,
) -> fmt::Result {
    for (new, name, _, _, value) in FAMILIES {
        let help = help(&format!("unitring_companion_{new}"));
        let name = format!("unitring_{name}");
        write(page, &name, (Kind::Gauge, &help), units, value)?;
    }
    Ok(())
}

fn write(
    page: &mut Page,
    name: &str,
    (kind, help): (Kind, &str),
    units: &BTreeMap<UnitId, ShownLink>,
    value: LinkValue,
) -> fmt::Result {
    page.family(name, kind, help)?;
    for (unit, link) in units {
        if let Some(value) = value(link) {
            page.sample(name, &[("unit", unit.as_str())], value)?;
        }
    }
    Ok(())
}
