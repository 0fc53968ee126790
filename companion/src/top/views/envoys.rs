//! The Envoys that report, a row for each service on which one reports.

use super::services::size;
use crate::top::answers::{Reporter, Service};
use crate::top::table::{Cell, Column, Row, Table, Tone};

pub(super) const COLUMNS: [Column; 8] = [
    Column::text("envoy", "ENVOY"),
    Column::text("service", "SERVICE"),
    Column::text("ring", "RING"),
    Column::number("fallbacks", "FALLBACKS"),
    Column::number("updates/s", "UPDATES/S"),
    Column::number("refused", "REFUSED"),
    Column::number("dropped", "DROPPED"),
    Column::text("wiring", "WIRING"),
];

pub(super) fn table(services: &[Service]) -> Table {
    let rows = services.iter().flat_map(|service| {
        let row = |reporter| row(&service.service, reporter);
        service.reporters.iter().map(row)
    });
    Table {
        title: "Envoys".to_owned(),
        rows: rows.collect(),
        ..Table::default()
    }
}

fn row(service: &str, reporter: &Reporter) -> Row {
    let kinds = reporter.wiring.iter().map(|finding| finding.kind.as_str());
    let kinds: Vec<&str> = kinds.collect();
    let wiring = match kinds.as_slice() {
        [] => Cell::ordered("ok", 1.0),
        // The more is wrong, the earlier it comes.
        wrong => Cell::ordered(wrong.join(", "), -(size(wrong.len()) as f64)).toned(Tone::Bad),
    };
    Row {
        id: format!("{} {service}", reporter.reporter),
        service: Some(service.to_owned()),
        cells: vec![
            Cell::text(&reporter.reporter),
            Cell::text(service),
            Cell::text(&reporter.ring),
            Cell::count(reporter.fallbacks),
            Cell::rate(Some(reporter.updates_per_s)),
            Cell::bad_unless_zero(reporter.updates_refused),
            Cell::bad_unless_zero(reporter.updates_dropped),
            wiring,
        ],
    }
}
