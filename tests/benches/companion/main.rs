//! The cost of a fleet's reports at its companion: how long an Envoy waits for the answer, and what the
//! companion uses. Prints tables; `make bench AREA=companion` puts them into the docs.
//!
//! The companion is the real program. The Envoys are not: this program makes the same reports on as many
//! connections, in a thread that does not run on the companion's core.

#![allow(clippy::disallowed_methods, reason = "benchmarks measure")]
#![allow(clippy::print_stdout)]

mod body;
mod closed;
mod cores;
mod open;
mod reporter;
mod server;

use anyhow::Result;

// A single thread, so that it has one core, and a child process inherits its core.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    unitring_tests::process::be_quiet();
    // Many shells allow a program fewer than a thousand.
    unitring_tests::process::open_files(4_000)?;
    let cores = cores::Cores::take()?;
    open::measure(cores).await?;
    closed::measure(cores).await?;
    println!("{}", cores.told());
    Ok(())
}
