//! The instances of one service.

use super::services::failure_tone;
use crate::states::InstanceState;
use crate::top::answers::{Instance, Service};
use crate::top::rate::History;
use crate::top::table::{Cell, Column, Row, Table, Tone};

const COLUMNS: [Column; 8] = [
    Column::text("instance", "INSTANCE"),
    Column::text("state", "STATE"),
    Column::number("in-flight", "IN FLIGHT"),
    Column::number("calls/s", "CALLS/S"),
    Column::number("failures/s", "FAILURES/S"),
    Column::number("updates/s", "UPDATES/S"),
    Column::number("calls", "CALLS"),
    Column::number("failures", "FAILURES"),
];
/// The columns after the requests in flight.
const SHARES: [Column; 2] = [
    Column::number("capacity", "CAPACITY"),
    Column::number("keys", "KEYS"),
];
const SHARES_PLACE: usize = 3;

pub(super) fn columns(has_shares: bool) -> Vec<Column> {
    let mut columns = COLUMNS.to_vec();
    if has_shares {
        columns.splice(SHARES_PLACE..SHARES_PLACE, SHARES);
    }
    columns
}

/// Without a service there is none yet.
pub(super) fn table(service: Option<&Service>, has_shares: bool, history: &History) -> Table {
    let Some(service) = service else {
        return Table {
            title: "instances".to_owned(),
            notes: vec![("the companion knows no service yet".to_owned(), Tone::Warn)],
            ..Table::default()
        };
    };
    let row = |instance| row(&service.service, instance, has_shares, history);
    let mut notes = Vec::new();
    let is_reported = |id: &str, address: &str| {
        let mut instances = service.instances.iter();
        instances.any(|it| it.id == id || it.address == address)
    };
    let unseen = service.registry.iter().filter(|registered| {
        let field = |name| registered.get(name).and_then(|value| value.as_str());
        let (id, address) = (field("id"), field("address"));
        !is_reported(id.unwrap_or_default(), address.unwrap_or_default())
    });
    match unseen.count() {
        0 => {}
        count => notes.push((
            format!("no Envoy reports {count} of the registered instances"),
            Tone::Warn,
        )),
    }
    Table {
        title: format!("instances of {}", service.service),
        notes,
        rows: service.instances.iter().map(row).collect(),
        ..Table::default()
    }
}

fn row(service: &str, instance: &Instance, has_shares: bool, history: &History) -> Row {
    let Instance { id, address, .. } = instance;
    let rates = history.rates(&(service.to_owned(), id.clone()));
    let failing = rates.map(|rates| rates.failures);
    let name = match id == address {
        true => id.clone(),
        false => format!("{id} ({address})"),
    };
    let (load, updates) = (instance.in_flight, instance.update_load);
    let in_flight = match updates {
        0 => load.to_string(),
        updates => format!("{load}+{updates}"),
    };
    let load = load.saturating_add(updates);
    let is_full = instance.capacity.is_some_and(|most| load >= most);
    let in_flight = Cell::ordered(in_flight, load as f64);
    let mut cells = vec![
        Cell::text(&name),
        state(instance),
        in_flight.toned(if is_full { Tone::Warn } else { Tone::Plain }),
        Cell::rate(rates.map(|rates| rates.calls)),
        Cell::rate(failing).toned(failure_tone(failing)),
        Cell::rate(Some(instance.updates_per_s)),
        Cell::count(instance.calls),
        Cell::count(instance.failures),
    ];
    if has_shares {
        let percent = |share: f64| Cell::ordered(format!("{:.1} %", share * 100.0), share);
        let shares = [
            Cell::or_nothing(instance.capacity, Cell::count),
            Cell::or_nothing(instance.share, percent),
        ];
        cells.splice(SHARES_PLACE..SHARES_PLACE, shares);
    }
    Row {
        id: id.clone(),
        service: None,
        cells,
    }
}

/// The state; the worst comes first.
fn state(instance: &Instance) -> Cell {
    let state = InstanceState::of(instance.draining, instance.healthy, instance.warmth);
    let (by, tone) = match state {
        InstanceState::Unhealthy => (0.0, Tone::Bad),
        InstanceState::Draining => (1.0, Tone::Warn),
        InstanceState::WarmingUp => (2.0, Tone::Warn),
        InstanceState::Ok => (3.0, Tone::Good),
    };
    Cell::ordered(state.as_str(), by).toned(tone)
}
