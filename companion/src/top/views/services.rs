//! All services: the number of instances, their health, and their load together.

use crate::top::answers::Service;
use crate::top::rate::{History, Rates};
use crate::top::table::{Cell, Column, Row, Table, Tone};

pub(super) const COLUMNS: [Column; 11] = [
    Column::text("service", "SERVICE"),
    Column::number("instances", "INSTANCES"),
    Column::number("unhealthy", "UNHEALTHY"),
    Column::number("envoys", "ENVOYS"),
    Column::number("in-flight", "IN FLIGHT"),
    Column::number("calls/s", "CALLS/S"),
    Column::number("failures/s", "FAILURES/S"),
    Column::number("updates/s", "UPDATES/S"),
    Column::number("calls", "CALLS"),
    Column::number("failures", "FAILURES"),
    Column::number("wiring", "WIRING"),
];

pub(super) fn table(services: &[Service], history: &History) -> Table {
    Table {
        title: "services".to_owned(),
        rows: services.iter().map(|it| row(it, history)).collect(),
        ..Table::default()
    }
}

fn row(service: &Service, history: &History) -> Row {
    let instances = service.instances.as_slice();
    let unhealthy = instances.iter().filter(|it| !it.healthy && !it.draining);
    // Registered ones that no Envoy reports count, too.
    let all = instances.len().max(service.registry.len());
    let key = |id: &String| (service.service.clone(), id.clone());
    let rates = instances.iter().map(|it| history.rates(&key(&it.id)));
    // New instances have no rates yet.
    let rates = rates.flatten().reduce(Rates::plus);
    let sum = |of: fn(&crate::top::answers::Instance) -> u64| {
        let all = instances.iter().map(of);
        Cell::count(all.fold(0, u64::saturating_add))
    };
    let updates = instances.iter().map(|it| it.updates_per_s).sum();
    let failing = rates.map(|rates| rates.failures);
    let findings: usize = service.reporters.iter().map(|it| it.wiring.len()).sum();
    Row {
        id: service.service.clone(),
        service: Some(service.service.clone()),
        cells: vec![
            Cell::text(&service.service),
            Cell::count(size(all)),
            Cell::bad_unless_zero(size(unhealthy.count())),
            Cell::count(size(service.reporters.len())),
            sum(|it| it.in_flight),
            Cell::rate(rates.map(|rates| rates.calls)),
            Cell::rate(failing).toned(failure_tone(failing)),
            Cell::rate(Some(updates)),
            sum(|it| it.calls),
            sum(|it| it.failures),
            Cell::bad_unless_zero(size(findings)),
        ],
    }
}

/// How a rate of failures stands out.
pub(super) fn failure_tone(rate: Option<f64>) -> Tone {
    match rate {
        Some(rate) if rate > 0.0 => Tone::Warn,
        _ => Tone::Plain,
    }
}

pub(super) fn size(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
