//! Processor time a request with one worker and with two.

use anyhow::Result;
use unitring_tests::companion::Settings;

use crate::base::Base;
use crate::clients::Owners;
use crate::seconds;
use crate::systems::System;
use crate::upstream::Upstream;

const INSTANCES: u32 = 100;
/// Systems with the same number of workers; the first of them is RING_HASH.
const KINDS: usize = 5;

pub(super) async fn measure() -> Result<()> {
    let companion = Settings::default().start().await?;
    let upstream = Upstream::start(INSTANCES).await?;
    let base = Base::new(&upstream.addresses, &companion)?;
    let mut systems = Vec::new();
    for workers in [1, 2] {
        for system in base.shells()? {
            systems.push(System {
                workers,
                config: system.config.balanced()?,
                ..system
            });
        }
    }
    let of_as_many = |number| number - number % KINDS;
    let figures = seconds::measure(&systems, &Owners::new(), of_as_many).await?;
    println!(
        "Processor time a request, {INSTANCES} instances, against RING_HASH with as many workers:\n"
    );
    println!("| | `--concurrency 1` | `--concurrency 2` |");
    println!("|---|---:|---:|");
    let (one, two) = figures.split_at(KINDS);
    for ((system, one), two) in systems.iter().zip(one).zip(two) {
        println!("| {} | {:.2} | {:.2} |", system.name, one.ratio, two.ratio);
    }
    println!();
    Ok(())
}
