//! How far several Envoys overshoot the capacity of an instance: the bound that `docs/bound.md`
//! derives holds at every admission of seeded runs in virtual time, and is nearly reached.
//!
//! `cargo test --package unitring-routing --test overshoot -- --nocapture` prints the table of the
//! page.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

mod fleet;
mod random;

use fleet::{Outcome, Scope, Settings};

const SEEDS: u64 = 3;

/// Ten Envoys in front of ten instances, a report each second, requests of half a second.
const USUAL: Settings = Settings {
    envoys: 10,
    instances: 10,
    per_second: 400,
    hot_percent: 30,
    service_ms: 500,
    interval_ms: 1_000,
    tick_ms: 250,
    latency_ms: 20,
    min_capacity: 1,
    scope: Scope::Fleet,
    seconds: 12,
};

/// The variations, with their names in the table.
fn cases() -> Vec<(&'static str, Settings)> {
    let fast = Settings {
        interval_ms: 100,
        tick_ms: 100,
        ..USUAL
    };
    let slow = Settings {
        service_ms: 5_000,
        per_second: 100,
        seconds: 30,
        ..USUAL
    };
    let many = Settings { envoys: 40, ..slow };
    vec![
        ("reports every 1 s, requests of 0.5 s", USUAL),
        ("reports every 0.1 s", fast),
        ("requests of 5 s", slow),
        ("requests of 5 s, 40 Envoys", many),
        (
            "the same, `min_capacity` 16",
            Settings {
                min_capacity: 16,
                ..many
            },
        ),
        (
            "one key alone",
            Settings {
                hot_percent: 100,
                ..USUAL
            },
        ),
        ("one Envoy", Settings { envoys: 1, ..USUAL }),
    ]
}

/// The worst outcome of all seeds.
fn worst(settings: Settings) -> Outcome {
    let runs = (1..=SEEDS).map(|seed| fleet::run(settings, seed));
    runs.reduce(Outcome::worse).unwrap()
}

fn of_process(settings: Settings) -> Settings {
    Settings {
        scope: Scope::Process,
        ..settings
    }
}

fn table() -> String {
    let mut text = String::from(
        "| case | capacity | peak | over | allowed | used at most | peak with `scope: process` |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
    );
    for (name, settings) in cases() {
        let fleet = worst(settings);
        let process = worst(of_process(settings));
        text.push_str(&format!(
            "| {name} | {} | {} | {} | {} | {} % | {} |\n",
            fleet.capacity, fleet.peak, fleet.over, fleet.allowed, fleet.used_percent, process.peak,
        ));
    }
    text
}

#[test]
fn the_table_in_the_docs_is_what_is_simulated() {
    let table = table();
    println!("{table}");
    let page = include_str!("../../../docs/bound.md");
    assert!(page.contains(&table), "{table}");
}

/// `fleet::run` checks the bound at every admission, and that no view is older than derived.
#[test]
fn no_admission_passes_the_capacity_by_more_than_the_derived_bound() {
    for (name, settings) in cases() {
        for seed in 100..100 + SEEDS {
            let outcome = fleet::run(settings, seed);
            assert!(outcome.admitted > 1_000, "{name}, seed {seed}: {outcome:?}");
        }
    }
}

#[test]
fn the_derived_bound_is_nearly_reached() {
    // All Envoys start at once with one key, and none knows the others' requests.
    let burst = Settings {
        hot_percent: 100,
        service_ms: 20_000,
        min_capacity: 16,
        per_second: 1_000,
        seconds: 2,
        ..USUAL
    };
    let outcome = worst(burst);
    assert!(outcome.used_percent >= 80, "{outcome:?}");
    assert!(
        outcome.oldest_ms * 10 >= burst.staleness_ms() * 6,
        "the oldest view was {} ms old, of {} allowed",
        outcome.oldest_ms,
        burst.staleness_ms()
    );
}

#[test]
fn one_envoy_never_passes_the_capacity() {
    let alone = Settings { envoys: 1, ..USUAL };
    let outcome = worst(alone);
    assert_eq!((outcome.over, outcome.allowed), (0, 0));
}

#[test]
fn many_envoys_that_count_alone_pass_the_capacity_far_more() {
    let many = Settings {
        envoys: 40,
        service_ms: 5_000,
        per_second: 100,
        seconds: 30,
        min_capacity: 16,
        ..USUAL
    };
    let (fleet, process) = (worst(many), worst(of_process(many)));
    assert!(
        process.over > 3 * fleet.over,
        "process: {process:?}, fleet: {fleet:?}"
    );
}
