//! The latest events.

use std::time::{Duration, UNIX_EPOCH};

use crate::top::answers::Event;
use crate::top::table::{Cell, Column, Row, Table, Tone};

pub(super) const COLUMNS: [Column; 7] = [
    Column {
        is_largest_first: true,
        ..Column::text("time", "TIME")
    },
    Column::text("event", "EVENT"),
    Column::text("service", "SERVICE"),
    Column::text("instance", "INSTANCE"),
    Column::number("moved", "MOVED"),
    Column::text("seen-by", "SEEN BY"),
    Column::text("reason", "REASON"),
];

/// The last moment that has a date of four digits. A neighbour may say any.
const LAST_MS: u64 = 253_402_300_799_999;

pub(super) fn table(events: &[Event], service: Option<&str>) -> Table {
    let wanted = |event: &&Event| service.is_none() || event.service.as_deref() == service;
    Table {
        title: "events".to_owned(),
        rows: events.iter().filter(wanted).map(row).collect(),
        ..Table::default()
    }
}

/// A moment, by seconds.
pub(in crate::top) fn time(at_ms: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(at_ms.min(LAST_MS));
    humantime::format_rfc3339_seconds(at).to_string()
}

fn row(event: &Event) -> Row {
    let tone = match event.kind.as_str() {
        "ejected" | "overloaded" | "group_degraded" => Tone::Bad,
        "recovered" | "relieved" | "warmed" | "group_restored" => Tone::Good,
        _ => Tone::Plain,
    };
    let moved = match event.moved > 0.0 {
        true => Some(event.moved),
        false => None,
    };
    let percent = |share: f64| Cell::ordered(format!("{:.1} %", share * 100.0), share);
    let seen_by = match (&event.reporter, &event.unit) {
        (Some(reporter), _) if event.seen_by > 1 => {
            Some(format!("{reporter} and {} more", event.seen_by - 1))
        }
        (Some(reporter), _) => Some(reporter.clone()),
        (None, Some(unit)) => Some(format!("unit {unit}")),
        (None, None) => None,
    };
    let text = |text: &Option<String>| Cell::or_nothing(text.as_ref(), |it| Cell::text(it));
    Row {
        id: event.cursor.clone(),
        service: event.service.clone(),
        cells: vec![
            Cell::ordered(time(event.at_ms), event.at_ms as f64),
            Cell::text(&event.kind).toned(tone),
            text(&event.service),
            text(&event.instance),
            Cell::or_nothing(moved, percent),
            text(&seen_by),
            Cell::text(&event.reason),
        ],
    }
}
