//! This unit and the links to the others.

use super::services::size;
use crate::states::LinkState;
use crate::top::answers::{Conflict, Link, Sync, Units};
use crate::top::table::{Cell, Column, Row, Table, Tone};

pub(super) const COLUMNS: [Column; 10] = [
    Column::text("unit", "UNIT"),
    Column::text("state", "STATE"),
    Column::number("lag", "LAG MS"),
    Column::number("lag-p99", "LAG P99 MS"),
    Column::number("outbox", "OUTBOX"),
    Column::number("skew", "SKEW MS"),
    Column::number("conflicts", "CONFLICTS"),
    Column::number("missing", "MISSING"),
    Column::number("differ", "BUCKETS DIFFER"),
    Column::number("confirmed", "CONFIRMED"),
];

pub(super) fn table(units: &Units, conflicts: &[Conflict], is_follower: bool) -> Table {
    let mut table = Table {
        title: format!("unit {}", units.unit),
        ..Table::default()
    };
    let mut note = |text: String, tone| table.notes.push((text, tone));
    match &units.sync {
        None => note("this unit has no peers".to_owned(), Tone::Plain),
        Some(_) if is_follower => {
            let text = "a follower: the leader of the unit syncs, ask it";
            note(text.to_owned(), Tone::Warn);
        }
        Some(sync) => {
            let (waiting, most) = (sync.outbox, sync.outbox_max);
            let repaired = sync.repaired_records;
            note(
                format!(
                    "outbox {waiting} of at most {most} changes, {repaired} records repaired since the start"
                ),
                Tone::Plain,
            );
            for (count, what) in [
                (
                    sync.namesakes.len(),
                    "units have two stores that speak in their name",
                ),
                (
                    sync.strangers.len(),
                    "units send messages and are no members of the group",
                ),
                (sync.set_aside.len(), "records of other units are not taken"),
            ] {
                if count > 0 {
                    note(
                        format!("{count} {what}: unitring status names them"),
                        Tone::Bad,
                    );
                }
            }
        }
    }
    let Some(sync) = &units.sync else {
        return table;
    };
    table.rows.push(own(&units.unit, sync, conflicts));
    let links = sync.links.iter();
    table
        .rows
        .extend(links.map(|(unit, link)| of_link(unit, link, conflicts)));
    table
}

/// This unit: its own queue, and what waits for others.
fn own(unit: &str, sync: &Sync, conflicts: &[Conflict]) -> Row {
    let cells = vec![
        Cell::text(&format!("{unit} (this one)")),
        state(&sync.inbox),
        Cell::nothing(),
        Cell::nothing(),
        Cell::count(sync.outbox),
        Cell::nothing(),
        conflicted(unit, conflicts),
        Cell::nothing(),
        Cell::nothing(),
        Cell::nothing(),
    ];
    row(unit, cells)
}

fn of_link(unit: &str, link: &Link, conflicts: &[Conflict]) -> Row {
    let compared = link.compared.as_ref();
    let skew = |ms: i64| {
        let tone = match link.clock_skew_alarm {
            true => Tone::Bad,
            false => Tone::Plain,
        };
        // The largest skew, whichever clock is ahead.
        Cell::ordered(ms.to_string(), ms.unsigned_abs() as f64).toned(tone)
    };
    let cells = vec![
        Cell::text(unit),
        state(&link.state),
        Cell::or_nothing(link.lag, |lag| Cell::count(lag.p50_ms)),
        Cell::or_nothing(link.lag, |lag| Cell::count(lag.p99_ms)),
        Cell::nothing(),
        Cell::or_nothing(link.clock_skew_ms, skew),
        conflicted(unit, conflicts),
        Cell::or_nothing(compared, |it| Cell::count(it.missing)),
        Cell::or_nothing(compared, |it| {
            Cell::bad_unless_zero(size(it.diverged.len()))
        }),
        Cell::count(link.confirmed),
    ];
    row(unit, cells)
}

fn row(unit: &str, cells: Vec<Cell>) -> Row {
    Row {
        id: unit.to_owned(),
        service: None,
        cells,
    }
}

fn state(state: &LinkState) -> Cell {
    let tone = match state {
        LinkState::Up => Tone::Good,
        state if state.is_fault() => Tone::Bad,
        _ => Tone::Plain,
    };
    Cell::text(&state.to_string()).toned(tone)
}

/// In how many of the latest conflicts a change of this unit won or lost.
fn conflicted(unit: &str, conflicts: &[Conflict]) -> Cell {
    let is_by = |version: &String| {
        let by = version.split_once('@').map_or("", |(_, by)| by);
        // The version of a deletion or of an expiring record has a mark behind the unit.
        by.split(['!', '~']).next() == Some(unit)
    };
    let count = conflicts
        .iter()
        .filter(|it| is_by(&it.lost) || is_by(&it.kept));
    Cell::count(size(count.count()))
}
