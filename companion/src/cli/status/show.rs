//! The status as people read it: problems first, then the unit, then tables.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, Table, presets};

use super::super::unit;
use super::{Instance, Reporter, Seen, Service, Sync};
use crate::client::ask::count;
use crate::states::{InstanceState, UnitRole};

/// Unhealthy instances of a service that are named.
pub(super) const NAMED_MAX: usize = 5;
/// Instances that are shown unless all are asked for.
const INSTANCES_MAX: usize = 20;
/// Envoys that are shown unless all are asked for.
const ENVOYS_MAX: usize = 20;
/// Problems that are shown unless all are asked for: each Envoy of a fleet may report the same one.
const PROBLEMS_MAX: usize = 20;
const BAD: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default();

/// Everything.
pub(super) fn text(seen: &Seen, shows_all: bool) -> String {
    let mut out = String::new();
    // A finding of the wiring starts its own line, as in the log and in /readyz.
    let cut = cut(seen.problems.len(), PROBLEMS_MAX, shows_all);
    for problem in seen.problems.iter().take(seen.problems.len() - cut) {
        line(&mut out, &format!("{BAD}{problem}{BAD:#}"));
    }
    out.push_str(&more(cut, "problem"));
    let word = match seen.problems.len() {
        0 => format!("{GOOD}healthy{GOOD:#}"),
        1 => format!("{BAD}degraded{BAD:#}, 1 problem"),
        several => format!("{BAD}degraded{BAD:#}, {several} problems"),
    };
    line(&mut out, &format!("status     {word}"));
    let role = match seen.ready.role {
        Some(UnitRole::Follower) => ", a follower: another companion of the unit leads",
        Some(UnitRole::Unknown) => ", which does not know yet whether it leads",
        Some(UnitRole::Leader) | None => "",
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
        out.push_str(&envoys(service, shows_all));
    }
    out
}

fn envoys(service: &Service, shows_all: bool) -> String {
    let mut worst: Vec<&Reporter> = service.reporters.iter().collect();
    let cut = cut(worst.len(), ENVOYS_MAX, shows_all);
    if cut > 0 {
        let usual = usual_ring(&service.reporters);
        worst.sort_by_key(|one| {
            (
                Reverse(!one.wiring.is_empty()),
                Reverse(one.ring != usual),
                Reverse(one.fallbacks),
            )
        });
        worst.truncate(ENVOYS_MAX);
    }
    let mut table = table(&["ENVOY", "RING", "FALLBACKS"], 2);
    for reporter in worst {
        table.add_row([
            reporter.reporter.clone(),
            reporter.ring.clone(),
            reporter.fallbacks.to_string(),
        ]);
    }
    format!("{}\n{}", shown(&table), more(cut, "Envoy"))
}

/// The ring of most Envoys: one that differs places keys elsewhere.
fn usual_ring(reporters: &[Reporter]) -> &str {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reporter in reporters {
        *counts.entry(&reporter.ring).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map_or("", |(ring, _)| ring)
}

/// How many of `count` rows are left out.
fn cut(count: usize, most: usize, shows_all: bool) -> usize {
    if shows_all {
        return 0;
    }
    count.saturating_sub(most)
}

/// The line that counts the rows left out, and says how to see them.
fn more(cut: usize, what: &str) -> String {
    match cut {
        0 => String::new(),
        1 => format!("and 1 more {what}: --all shows it\n"),
        _ => format!("and {cut} more {what}s: --all shows them\n"),
    }
}

fn instances(service: &Service, shows_all: bool) -> String {
    let mut worst: Vec<&Instance> = service.instances.iter().collect();
    let cut = cut(worst.len(), INSTANCES_MAX, shows_all);
    if cut > 0 {
        // Instances that need attention come first, then the fullest.
        worst.sort_by_key(|one| {
            (
                Reverse(one.is_bad()),
                Reverse(one.state() != InstanceState::Ok),
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
            one.state().as_str().to_owned(),
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
    out.push_str(&more(cut, "instance"));
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

    fn reporter(number: u32, ring: &str, findings: &[serde_json::Value]) -> serde_json::Value {
        json!({"reporter": format!("envoy-{number}"), "ring": ring, "fallbacks": number, "wiring": findings})
    }

    fn first_words(shown: &str, heading: &str) -> Vec<String> {
        let rows = shown.lines().skip_while(|line| !line.starts_with(heading));
        let words = rows
            .skip(1)
            .filter_map(|line| line.split_whitespace().next());
        words.map(str::to_owned).collect()
    }

    #[test]
    fn of_a_large_fleet_the_envoys_that_need_attention_are_shown_and_the_others_counted() {
        let finding = json!({"kind": "filter_order", "seen": "x", "mend": "y"});
        let mut reporters: Vec<_> = (0..201).map(|number| reporter(number, "a", &[])).collect();
        reporters[3] = reporter(3, "b", &[]);
        reporters[4] = reporter(4, "a", &[finding]);
        let fleet = Service::deserialize(json!({
            "service": "orders", "registry": [], "instances": [], "reporters": reporters,
        }))
        .unwrap();
        let shown = of_service(&fleet, false);
        let rows = first_words(&shown, "ENVOY");
        assert_eq!(rows.len(), 21, "{shown}");
        assert_eq!(
            rows[..4],
            ["envoy-4", "envoy-3", "envoy-200", "envoy-199"],
            "{shown}"
        );
        assert!(
            shown.ends_with("\nand 181 more Envoys: --all shows them\n"),
            "{shown}"
        );
        let all = of_service(&fleet, true);
        assert_eq!(first_words(&all, "ENVOY").len(), 201);
        assert!(!all.contains("more"), "{all}");
    }

    #[test]
    fn of_a_thousand_instances_the_worst_twenty_are_shown_and_the_others_counted() {
        let instance = |number: u64| {
            json!({
                "id": format!("i{number}"), "address": "10.0.0.1:80", "healthy": number != 700,
                "draining": number == 701, "warmth": 100, "calls": 1, "failures": 0,
                "in_flight": number, "updates": 0,
            })
        };
        let instances: Vec<_> = (0..1_000).map(instance).collect();
        let shown = of_service(&service(&instances), false);
        let rows = first_words(&shown, "INSTANCE");
        assert_eq!(rows.len(), 21, "{shown}");
        assert_eq!(rows[..4], ["i700", "i701", "i999", "i998"], "{shown}");
        assert!(
            shown.ends_with("\nand 980 more instances: --all shows them\n"),
            "{shown}"
        );
        let all = of_service(&service(&instances), true);
        assert_eq!(first_words(&all, "INSTANCE").len(), 1_000);
    }

    #[test]
    fn one_that_is_left_out_is_one() {
        assert_eq!(more(1, "problem"), "and 1 more problem: --all shows it\n");
        assert_eq!(more(0, "problem"), "");
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
