//! The cost of a request in Envoy: unitring against Envoy's own policies and other ways to choose an
//! instance outside of Envoy's core. Prints tables; `make bench AREA=request` puts them into the docs.
//!
//! With the argument `updates`: the cost of data updates from answers, for requests and for the companion.
//!
//! With the argument `scale`: how that cost changes with the number of instances and of workers, and what
//! else the filter costs Envoy.
//!
//! All systems have the same instances, clients and keys. Instructions are those of the whole Envoy,
//! which do not depend on other load of the machine; processor seconds are those of Envoy, and of the
//! process that it calls if there is one.

#![allow(clippy::disallowed_methods, reason = "benchmarks measure")]
#![allow(clippy::print_stdout)]

mod base;
mod clients;
mod counted;
mod lookup;
mod picker;
mod scale;
mod seconds;
mod systems;
mod updates;
mod upstream;

use std::env;

use anyhow::Result;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let what = arguments.next();
    if what.as_deref() == Some(picker::ARGUMENT) {
        return picker::run(arguments).await;
    }
    unitring_tests::process::be_quiet();
    let only = env::var("UNITRING_BENCH_ONLY").ok();
    if what.as_deref() == Some("scale") {
        return scale::measure(only.as_deref()).await;
    }
    if what.as_deref() == Some("updates") {
        return updates::measure(only.as_deref()).await;
    }
    let upstream = upstream::Upstream::start(systems::INSTANCES).await?;
    let systems = systems::all(&upstream, only.as_deref()).await?;
    let counted = counted::measure(&systems.all, &systems.owners).await?;
    if counted::profiles().is_some() {
        return Ok(());
    }
    let seconds = seconds::measure(&systems.all, &systems.owners, |_| 0).await?;
    print_table(&systems, &counted, &seconds);
    Ok(())
}

fn print_table(systems: &systems::Systems, counted: &[f64], seconds: &[seconds::Figures]) {
    println!(
        "| what chooses the instance | instructions a request | against RING_HASH | processor time against RING_HASH |"
    );
    println!("|---|---:|---:|---:|");
    let base = counted.first().copied().unwrap_or(f64::NAN);
    for ((system, counted), seconds) in systems.all.iter().zip(counted).zip(seconds) {
        println!(
            "| {} | {:.1} k | {:.3} | {:.2} |",
            system.name,
            counted / 1e3,
            counted / base,
            seconds.ratio,
        );
    }
}
