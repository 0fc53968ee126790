//! How high the load of one instance gets: unitring against Envoy's own policies, on the same
//! instances, with the same requests, in one run.
//!
//! One key has a third of the traffic, and some instances are slow: a plain ring copes with neither.
//! First one Envoy has the whole load, then each of three has a third, where a bound that only knows its
//! own process no longer holds.

mod round;
mod systems;

use std::time::Duration;

use anyhow::{Result, ensure};
use unitring_tests::companion::Settings;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;
use unitring_tests::traffic::keys::{HOT_KEY, Keys};
use unitring_tests::traffic::{Pace, Traffic};

use super::table;
use round::{Figures, WATCHED};
use systems::{BALANCE_FACTOR, ENVOYS, INTERVAL, System};

const INSTANCES: usize = 10;
const SLOW: usize = 2;
const SERVICE_TIME: Duration = Duration::from_millis(150);
const SLOW_TIME: Duration = Duration::from_millis(600);
/// Requests that an instance works on at a time: about twice the average.
const WORKERS: u32 = 16;
const PER_SECOND: u32 = 400;
/// Requests before the measurement begins: a second of them, longer than the slowest request takes.
const WARM_UP: u64 = 400;
const HOT_PERCENT: u64 = 30;
const KEYS: u64 = 2_000;
const ROUNDS: usize = 3;

/// Runs all rounds and returns both tables.
pub(crate) async fn measure() -> Result<String> {
    let names: Vec<String> = (0..INSTANCES).map(|number| format!("i{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let instances = Instance::start_all(&names).await?;
    let companion = Settings::default().start().await?;
    println!("starting {ENVOYS} Envoys of each system");
    let systems = systems::start(&instances, &companion).await?;
    slow_down(&instances, &systems).await?;

    let mut tables = Vec::new();
    for envoys in [1, ENVOYS] {
        let mut figures = vec![Vec::new(); systems.len()];
        for round in 1..=ROUNDS {
            // Interleaved, so that noise of the machine affects all systems.
            for (system, figures) in systems.iter().zip(&mut figures) {
                let envoys: Vec<&Envoy> = system.envoys.iter().take(envoys).collect();
                let traffic = traffic(u64::try_from(round)?);
                let seen = round::measure(&traffic, WARM_UP, &envoys, &instances).await?;
                println!(
                    "{} Envoys, round {round}, {}: {seen:?}",
                    envoys.len(),
                    system.name
                );
                figures.push(seen);
            }
        }
        let rows: Vec<Vec<String>> = systems
            .iter()
            .zip(&figures)
            .map(|(system, rounds)| Figures::row(system.name, rounds))
            .collect();
        tables.push(table::markdown(&Figures::HEADS, &rows));
    }
    Ok(format!(
        "One Envoy:\n\n{}\nThree Envoys, each with a third of the same load:\n\n{}\n{}",
        tables.first().map_or("", String::as_str),
        tables.last().map_or("", String::as_str),
        conditions(),
    ))
}

fn traffic(seed: u64) -> Traffic {
    Traffic {
        pace: Pace::Open {
            per_second: PER_SECOND,
        },
        keys: Keys {
            count: KEYS,
            hot_percent: HOT_PERCENT,
        },
        seed,
    }
}

/// Slows down the first instances that no system gives the hot key to. Otherwise chance would decide
/// whether the hot key meets a slow instance, and that would decide everything.
async fn slow_down(instances: &[Instance], systems: &[System]) -> Result<()> {
    let mut owners = Vec::new();
    for envoy in systems.iter().flat_map(|system| &system.envoys) {
        owners.push(envoy.get(HOT_KEY).await?.instance);
    }
    let mut slow = 0;
    for instance in instances {
        let is_slow = slow < SLOW && !owners.contains(&instance.id);
        slow += usize::from(is_slow);
        let time = if is_slow { SLOW_TIME } else { SERVICE_TIME };
        instance.take_with_workers(time, WORKERS).await?;
    }
    ensure!(
        slow == SLOW,
        "only {slow} instances are without the hot key"
    );
    Ok(())
}

fn conditions() -> String {
    format!(
        "{INSTANCES} instances that work on {WORKERS} requests at a time, each {} ms, on {SLOW} of them \
         {} ms; more wait in the instance; {PER_SECOND} requests a second at a steady rate, {HOT_PERCENT} % of them with one key, the others spread over \
         {KEYS}; balance factor {BALANCE_FACTOR}, `min_capacity` 1, reports every {INTERVAL}; medians \
         of {ROUNDS} interleaved rounds of {:.1} s (errors: the sum).\n",
        SERVICE_TIME.as_millis(),
        SLOW_TIME.as_millis(),
        WATCHED.as_secs_f64(),
    )
}
