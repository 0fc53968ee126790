//! The cost and throughput of the sync of two units: real companions, each with a Redis of its own, and one
//! RabbitMQ between them. Prints tables; `make bench AREA=sync` puts them into the docs.

#![allow(clippy::disallowed_methods, reason = "benchmarks measure")]
#![allow(clippy::print_stdout)]

mod cut;
mod flood;
mod lag;
mod pipe;
mod rate;
mod through;
mod units;

use anyhow::Result;

const VALUE_BYTES: usize = 100;

#[tokio::main]
async fn main() -> Result<()> {
    unitring_tests::process::be_quiet();
    let wanted = std::env::var("UNITRING_BENCH_PART").unwrap_or_default();
    let is_wanted = |part: &str| wanted.is_empty() || wanted == part;
    if is_wanted("through") {
        through::measure().await?;
    }
    if is_wanted("lag") {
        lag::measure().await?;
    }
    if is_wanted("rate") {
        rate::measure().await?;
    }
    if is_wanted("cut") {
        cut::measure().await?;
    }
    Ok(())
}
