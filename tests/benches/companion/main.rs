//! What the reports of a fleet cost its companion: how long an Envoy waits for the answer, and what the
//! companion needs for it. Prints tables; `make bench AREA=companion` puts them into the docs.
//!
//! The companion is the real program. The Envoys are not: their reports are made here, in the same words
//! and on as many connections, by a thread that has no part in the companion's core.
#![allow(missing_docs, clippy::print_stdout)]

mod body;
mod closed;
mod cores;
mod open;
mod reporter;
mod server;

use anyhow::Result;

// One thread, so that it has one core, and what it starts has the core that it is on.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    unitring_tests::process::be_quiet();
    cores::allow_connections()?;
    let cores = cores::Cores::take()?;
    open::measure(cores).await?;
    closed::measure(cores).await?;
    println!("{}", cores.told());
    Ok(())
}
