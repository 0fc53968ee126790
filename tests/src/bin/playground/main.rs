//! What `make run` starts: one unit, or two that sync, on the default ports or the next free ones.
//!
//! Built on the harness of the tests, so that what people try is what is tested.

mod control;
mod place;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use unitring_tests::process;
use unitring_tests::rabbit::Rabbit;

use place::Place;

const NAMES: [&str; 2] = ["east", "west"];

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let units = units()?;
    process::be_quiet();
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    tokio::select! {
        outcome = play(units) => outcome?,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    println!("\nstopped");
    Ok(())
}

fn units() -> Result<usize> {
    let mut arguments = env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next().as_deref()) {
        (None, _) | (Some("--units"), Some("1")) => Ok(1),
        (Some("--units"), Some("2")) => Ok(2),
        (Some("--units"), Some(other)) => bail!("UNITS={other}: must be 1 or 2"),
        _ => bail!("usage: playground [--units 1|2]"),
    }
}

/// Starts everything, says what to try, and answers the control ports until it is dropped.
async fn play(units: usize) -> Result<()> {
    let names = NAMES.get(..units).unwrap_or_default();
    let rabbit = if units > 1 {
        println!("starting RabbitMQ, which takes some seconds");
        Some(Rabbit::start().await?)
    } else {
        None
    };
    let mut places = Vec::new();
    for (index, name) in names.iter().enumerate() {
        println!(
            "starting {}",
            if units > 1 {
                name
            } else {
                "Envoy, the companion, four instances"
            }
        );
        let peers: Vec<&str> = names.iter().copied().filter(|peer| peer != name).collect();
        places.push(Arc::new(
            Place::start(index, name, &peers, rabbit.as_ref()).await?,
        ));
    }
    for place in &places {
        println!("\n{}", place.describe(units > 1));
    }
    if let [here, there] = places.as_slice() {
        println!("\nWrite in one unit, read in the other:");
        println!(
            "  curl -X PUT {}/v1/data/profiles/ada -d 'written in {}'",
            here.companion(),
            here.name
        );
        println!("  curl {}/v1/data/profiles/ada", there.companion());
        println!("  curl {}/v1/units", here.companion());
    } else if let [place] = places.as_slice() {
        println!("\nTry:\n{}", place.suggestions());
    }
    println!("\nCtrl-C stops all of it.");
    futures_util::future::try_join_all(
        places.iter().map(|place| control::serve(Arc::clone(place))),
    )
    .await?;
    Ok(())
}
