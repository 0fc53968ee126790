//! The status as people read it: what is wrong first, then the unit, then tables.

use std::cmp::Reverse;

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};

use super::super::ask::count;
use super::super::unit;
use super::{Instance, Seen, Service, Sync};

/// Unhealthy instances of a service that are named.
pub(super) const NAMED_MAX: usize = 5;
/// Instances that are shown unless all are asked for.
const INSTANCES_MAX: usize = 20;
const BAD: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();

/// Everything.
pub(super) fn text(seen: &Seen, shows_all: bool) -> String {
    let mut out = String::new();
    // A finding of the wiring starts its own line, as in the log and in /readyz.
    for problem in &seen.problems {
        line(&mut out, &format!("{BAD}{problem}{BAD:#}"));
    }
    let word = match seen.problems.len() {
        0 => format!("{GOOD}healthy{GOOD:#}"),
        1 => format!("{BAD}degraded{BAD:#}, 1 problem"),
        several => format!("{BAD}degraded{BAD:#}, {several} problems"),
    };
    line(&mut out, &format!("status     {word}"));
    let role = match seen.ready.role.as_str() {
        "follower" => ", a follower: another companion of the unit leads",
        "unknown" => ", which does not know yet whether it leads",
        _ => "",
    };
    line(&mut out, &format!("unit       {}{role}", seen.ready.unit));
    for name in ["store", "group"] {
        if let Some(state) = seen.ready.checks.get(name) {
            line(&mut out, &format!("{name:<10} {state}"));
        }
    }
    if let Ok(units) = &seen.units {
        match &units.sync {
            None => line(&mut out, "sync       none: this unit has no peers"),
            Some(_) if !seen.leads() => line(&mut out, "sync       by the leader: ask it"),
            Some(sync) => out.push_str(&synced(sync)),
        }
    }
    for service in seen.services.iter().flatten() {
        out.push_str(&of_service(service, shows_all));
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

fn synced(sync: &Sync) -> String {
    let mut out = format!("inbox      {}\n", sync.inbox);
    for (name, link) in &sync.links {
        out.push_str(&format!("link       {}", unit::line(name, link)));
    }
    let (waiting, max) = (sync.outbox, sync.outbox_max);
    line(
        &mut out,
        &format!("outbox     {waiting} of at most {max} changes wait"),
    );
    let repaired = sync.repaired_records;
    line(
        &mut out,
        &format!("repaired   {} since the start", count(repaired, "record")),
    );
    out
}

fn of_service(service: &Service, shows_all: bool) -> String {
    let (registered, reporters) = (service.registry.len(), service.reporters.len());
    let mut out = format!(
        "\nservice    {}: {} registered, {}\n",
        service.service,
        count(registered, "instance"),
        count(reporters, "Envoy")
            + if reporters == 1 {
                " reports"
            } else {
                " report"
            },
    );
    if !service.instances.is_empty() {
        out.push_str(&instances(service, shows_all));
    }
    let unseen: Vec<String> = service
        .registry
        .iter()
        .filter(|registered| {
            let is_it =
                |one: &Instance| one.id == registered.id || one.address == registered.address;
            !service.instances.iter().any(is_it)
        })
        .map(|registered| format!("{} ({})", registered.id, registered.address))
        .collect();
    if !unseen.is_empty() {
        let named = unseen.iter().take(NAMED_MAX).map(String::as_str);
        let named = named.collect::<Vec<_>>().join(", ");
        let what = count(unseen.len(), "registered instance");
        line(&mut out, &format!("{what} no Envoy reports: {named}"));
    }
    if !service.reporters.is_empty() {
        let mut table = table(&["ENVOY", "RING", "FALLBACKS"], 2);
        for reporter in &service.reporters {
            table.add_row([
                reporter.reporter.clone(),
                reporter.ring.clone(),
                reporter.fallbacks.to_string(),
            ]);
        }
        line(&mut out, &shown(&table));
    }
    out
}

fn instances(service: &Service, shows_all: bool) -> String {
    let mut worst: Vec<&Instance> = service.instances.iter().collect();
    let cut = worst.len().saturating_sub(INSTANCES_MAX);
    let hides = cut > 0 && !shows_all;
    if hides {
        // Instances that need attention come first, then the fullest.
        worst.sort_by_key(|one| {
            (
                Reverse(one.is_bad()),
                Reverse(one.state() != "ok"),
                Reverse(fullness(one)),
            )
        });
        worst.truncate(INSTANCES_MAX);
    }
    let headings = [
        "INSTANCE",
        "STATE",
        "IN FLIGHT",
        "KEYS",
        "CALLS",
        "FAILURES",
        "UPDATES",
    ];
    let mut table = table(&headings, 2);
    for one in worst {
        let capacity = one
            .capacity
            .map_or(String::new(), |most| format!("/{most}"));
        let share = one
            .share
            .map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
        let name = if one.id == one.address {
            one.id.clone()
        } else {
            format!("{} ({})", one.id, one.address)
        };
        table.add_row([
            name,
            one.state().to_owned(),
            format!("{}{capacity}", one.in_flight),
            share,
            one.calls.to_string(),
            one.failures.to_string(),
            one.updates.to_string(),
        ]);
    }
    let mut out = shown(&table) + "\n";
    if hides {
        line(&mut out, &format!("and {cut} more: --all shows them"));
    }
    out
}

/// In flight of a thousand that it may have; without a bound, what is in flight.
fn fullness(one: &Instance) -> u64 {
    match one.capacity {
        Some(most) if most > 0 => one.in_flight.saturating_mul(1_000) / most,
        _ => one.in_flight,
    }
}

/// Columns without lines; numbers to the right.
fn table(headings: &[&str], texts: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(headings);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index >= texts {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn shown(table: &Table) -> String {
    table.trim_fmt()
}
