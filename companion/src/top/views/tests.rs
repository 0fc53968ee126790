use std::time::Duration;

use serde::Deserialize as _;
use serde_json::json;

use super::*;
use crate::top::answers::{Conflict, Event, Units};
use crate::top::fixtures::{instance, sample, service, want};
use crate::top::table::Tone;

/// The cells of each row.
fn cells(table: &Table) -> Vec<Vec<&str>> {
    let rows = table.rows.iter();
    let cells = rows.map(|row| row.cells.iter().map(|cell| cell.text.as_str()).collect());
    let cells: Vec<Vec<&str>> = cells.collect();
    for row in &cells {
        assert_eq!(row.len(), table.columns.len(), "{row:?}");
    }
    cells
}

fn shown(view: View, content: Content) -> Table {
    let sample = sample(1, content);
    table(&want(view), &sample, &History::default())
}

#[test]
fn a_service_sums_up_its_instances_and_the_rates_of_those_that_have_one() {
    let mut history = History::default();
    let second = Duration::from_secs(1);
    let at = |at, calls: &[(&str, u64)]| {
        let instances = calls.iter().map(|(id, calls)| instance(id, *calls));
        let instances: Vec<_> = instances.collect();
        sample(at, Content::Services(vec![service("orders", &instances)]))
    };
    let first = at(1, &[("a", 100), ("b", 100)]);
    history.push(first.at, second, first.counts());
    // `c` comes with a large counter, and `b` began again.
    let last = at(3, &[("a", 120), ("b", 10), ("c", 1_000_000)]);
    history.push(last.at, second, last.counts());
    let table = table(&want(View::Services), &last, &history);
    assert_eq!(
        cells(&table),
        [[
            "orders", "3", "0", "1", "9", "10.0", "1.0", "1.5", "1000130", "100013", "0"
        ]]
    );
}

#[test]
fn instances_show_what_is_wrong_and_their_share_if_it_is_asked_for() {
    let mut dead = instance("10.0.0.1:80", 7);
    dead["healthy"] = false.into();
    let mut full = instance("a", 20);
    full["address"] = "10.0.0.2:80".into();
    full["capacity"] = 5.into();
    full["share"] = 0.25.into();
    full["update_load"] = 2.into();
    let content = Content::Services(vec![service("orders", &[dead, full])]);
    let table = shown(View::Instances, content.clone());
    assert_eq!(table.title, "instances of orders");
    assert_eq!(
        cells(&table),
        [
            ["10.0.0.1:80", "unhealthy", "3", "-", "-", "0.5", "7", "0"],
            ["a (10.0.0.2:80)", "ok", "3+2", "-", "-", "0.5", "20", "2"],
        ]
    );
    assert_eq!(table.rows[0].cells[1].tone, Tone::Bad);
    assert_eq!(table.rows[1].cells[2].tone, Tone::Warn);
    let mut asked = want(View::Instances);
    asked.has_shares = true;
    let table = super::table(&asked, &sample(1, content), &History::default());
    assert_eq!(cells(&table)[0][3..5], ["-", "-"]);
    assert_eq!(cells(&table)[1][3..5], ["5", "25.0 %"]);
}

#[test]
fn before_any_service_is_known_the_instances_say_so() {
    let table = shown(View::Instances, Content::Services(Vec::new()));
    assert_eq!(table.notes[0].0, "the companion knows no service yet");
    assert!(table.rows.is_empty());
}

#[test]
fn an_envoy_that_is_wired_wrongly_names_the_kinds() {
    let mut orders = service("orders", &[]);
    orders.reporters[0].wiring = ["stats_matcher", "steer_header"]
        .map(|kind| crate::top::answers::Finding {
            kind: kind.to_owned(),
        })
        .to_vec();
    let table = shown(View::Envoys, Content::Services(vec![orders]));
    let wiring = "stats_matcher, steer_header";
    assert_eq!(
        cells(&table),
        [["edge-1", "orders", "a1", "0", "0.0", "0", "0", wiring]]
    );
    assert_eq!(table.rows[0].service.as_deref(), Some("orders"));
}

#[test]
fn a_unit_shows_its_outbox_and_of_each_link_lag_skew_and_conflicts() {
    let units = json!({"unit": "east", "sync": {"inbox": "ok", "outbox": 7, "outbox_max": 100, "links": {
        "west": {"state": "ok", "confirmed": 9, "lag": {"p50_ms": 3, "p99_ms": 40}, "clock_skew_ms": -900,
            "clock_skew_alarm": true, "compared": {"missing": 2, "diverged": [1, 5]}},
        "north": {"state": "connection refused"}}}});
    let conflicts = json!([{"lost": "1.0@west!", "kept": "2.0@east"}, {"lost": "3.0@west~9", "kept": "4.0@west2"}]);
    let conflicts = Vec::<Conflict>::deserialize(conflicts).unwrap();
    let units = Units::deserialize(units).unwrap();
    let table = shown(View::Units, Content::Units(units, conflicts));
    assert_eq!(
        cells(&table),
        [
            [
                "east (this one)",
                "ok",
                "-",
                "-",
                "7",
                "-",
                "1",
                "-",
                "-",
                "-"
            ],
            [
                "north",
                "connection refused",
                "-",
                "-",
                "-",
                "-",
                "0",
                "-",
                "-",
                "0"
            ],
            ["west", "ok", "3", "40", "-", "-900", "2", "2", "2", "9"],
        ]
    );
    assert_eq!(table.rows[2].cells[5].tone, Tone::Bad);
    let note = "outbox 7 of at most 100 changes, 0 records repaired since the start";
    assert_eq!(table.notes[0].0, note);
    let alone = Units::deserialize(json!({"unit": "east", "sync": null})).unwrap();
    let table = shown(View::Units, Content::Units(alone, Vec::new()));
    assert_eq!(table.notes[0].0, "this unit has no peers");
}

#[test]
fn events_tell_when_what_and_who_and_can_be_those_of_one_service() {
    let events = json!([
        {"cursor": "1-0", "at_ms": 1_764_400_000_999_u64, "kind": "ejected", "service": "orders",
            "instance": "a", "reason": "5 failures", "moved": 0.251, "reporter": "edge-1", "seen_by": 998},
        {"cursor": "2-0", "at_ms": u64::MAX, "kind": "group_degraded", "reason": "no replica"},
        {"cursor": "3-0", "at_ms": 0, "kind": "added", "service": "carts", "instance": "b", "moved": 0.0,
            "unit": "west"}]);
    let events = Vec::<Event>::deserialize(events).unwrap();
    let sample = sample(1, Content::Events(events));
    let all = table(&want(View::Events), &sample, &History::default());
    assert_eq!(
        cells(&all),
        [
            [
                "2025-11-29T07:06:40Z",
                "ejected",
                "orders",
                "a",
                "25.1 %",
                "edge-1 and 997 more",
                "5 failures"
            ],
            [
                "9999-12-31T23:59:59Z",
                "group_degraded",
                "-",
                "-",
                "-",
                "-",
                "no replica"
            ],
            [
                "1970-01-01T00:00:00Z",
                "added",
                "carts",
                "b",
                "-",
                "unit west",
                ""
            ],
        ]
    );
    let mut asked = want(View::Events);
    asked.service = Some("carts".to_owned());
    let of_carts = table(&asked, &sample, &History::default());
    assert_eq!(of_carts.rows.len(), 1);
}

#[test]
fn every_view_has_the_column_by_which_it_is_ordered() {
    for view in View::ALL {
        let columns = columns(view, false);
        assert!(
            columns.iter().any(|it| it.name == sort(view).column),
            "{view:?}"
        );
        for column in columns {
            // As the flag says it.
            let title = column.title.to_lowercase().replace(' ', "-");
            let short = title.trim_end_matches("-ms").trim_start_matches("buckets-");
            assert_eq!(column.name, short, "{view:?}");
        }
    }
}
