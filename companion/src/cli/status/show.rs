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
        "UPDATES/S",
    ];
    let mut table = table(&headings, 2);
    for one in &worst {
        let capacity = one
            .capacity
            .map_or(String::new(), |most| format!("/{most}"));
        let updating = match one.update_load {
            0 => String::new(),
            load => format!("+{load}"),
        };
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
            format!("{}{updating}{capacity}", one.in_flight),
            share,
            one.calls.to_string(),
            one.failures.to_string(),
            one.updates.to_string(),
            one.updates_per_s.to_string(),
        ]);
    }
    let mut out = shown(&table) + "\n";
    for one in worst {
        if one.updates_refused > 0 || one.updates_dropped > 0 {
            let (refused, dropped) = (one.updates_refused, one.updates_dropped);
            let refused = count(refused, "announcement");
            let dropped = count(dropped, "update");
            line(
                &mut out,
                &format!("{}: {refused} refused, {dropped} dropped", one.id),
            );
        }
    }
    if hides {
        line(&mut out, &format!("and {cut} more: --all shows them"));
    }
    out
}

/// Load of a thousand that it may have; without a bound, its load.
fn fullness(one: &Instance) -> u64 {
    let load = one.in_flight.saturating_add(one.update_load);
    match one.capacity {
        Some(most) if most > 0 => load.saturating_mul(1_000) / most,
        _ => load,
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

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;
    use serde_json::json;

    use super::*;

    fn service(instances: &[serde_json::Value]) -> Service {
        Service::deserialize(json!({
            "service": "orders", "registry": [], "reporters": [], "instances": instances,
        }))
        .unwrap()
    }

    #[test]
    fn the_table_of_a_busy_instance_fits_into_a_hundred_columns() {
        let busy = json!({
            "id": "172.20.100.100:18080", "address": "172.20.100.100:18080", "healthy": true,
            "draining": false, "warmth": 10, "calls": 123_456_789, "failures": 1_234_567,
            "in_flight": 1_200, "update_load": 30, "capacity": 1_500, "share": 0.125,
            "updates": 12_345_678, "updates_refused": 1, "updates_dropped": 20, "updates_per_s": 1_250.5,
        });
        let shown = of_service(&service(&[busy]), false);
        let longest = shown.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100), "{longest:?}\n{shown}");
        assert!(shown.contains(" 1200+30/1500 "), "{shown}");
        assert!(shown.contains(" 12345678     1250.5\n"), "{shown}");
        let line = "\n172.20.100.100:18080: 1 announcement refused, 20 updates dropped\n";
        assert!(shown.contains(line), "{shown}");
    }

    #[test]
    fn what_an_older_companion_does_not_tell_is_zero() {
        let older = json!({
            "id": "a", "address": "10.0.0.1:80", "healthy": true, "draining": false, "warmth": 100,
            "calls": 7, "failures": 0, "in_flight": 2, "updates": 3,
        });
        let shown = of_service(&service(&[older]), false);
        let row = shown.lines().last().unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(words[2..], ["ok", "2", "-", "7", "0", "3", "0"], "{shown}");
    }
}
