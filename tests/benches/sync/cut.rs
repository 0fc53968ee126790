//! How long two units take to hold the same again after their link was cut: once with an outbox that holds
//! everything, once with one that does not, so that digests find what is missing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use unitring_tests::proxy::Link;
use unitring_tests::unit_group::{UnitGroup, held};

use super::flood;
use super::units::{self, COMING_AND_GOING, Watch};

const CUT: Duration = Duration::from_secs(600);
const CHANGES: u32 = 100_000;
/// Parts in which the changes are written, evenly spread over the cut.
const PARTS: u32 = 100;
/// The outbox of the second group.
const SHORT: &str = "10000";

pub(crate) async fn measure() -> Result<()> {
    let whole = units::start(|settings| settings).await?;
    let short = units::start(|it| it.variable("UNITRING_SYNC_OUTBOX_MAX", SHORT)).await?;
    let groups = [&whole, &short];
    let mut before = Vec::new();
    for group in groups {
        before.push(Watch::of(&group.member("north")?.redis)?.keys()?);
        for link in &group.member("east")?.links {
            link.set(Link::Cut);
        }
    }
    let start = tokio::time::Instant::now();
    for part in 1..=PARTS {
        let count = u64::from(CHANGES / PARTS);
        for group in groups {
            let port = group.member("east")?.companion.port;
            flood::write(port, &format!("cut-{part}"), count).await?;
        }
        tokio::time::sleep_until(start + CUT * part / PARTS).await;
    }
    println!(
        "| after {} s without a link and {CHANGES} changes | until both hold the same, s |",
        CUT.as_secs()
    );
    println!("|---|---:|");
    for (group, (title, before)) in groups.iter().zip(
        [
            "the outbox holds all of them",
            "it holds 10,000, the others are found by digests (`sync.repair_rate` 20,000 records/s)",
        ]
        .into_iter()
        .zip(before),
    ) {
        let seconds = heal(group, before + u64::from(CHANGES)).await?;
        println!("| {title} | {seconds:.1} |");
    }
    println!(
        "\nFrom the moment when the link takes connections again; compared record by record through `redis-cli`."
    );
    Ok(())
}

async fn heal(group: &UnitGroup, keys: u64) -> Result<f64> {
    let (east, north) = (group.member("east")?, group.member("north")?);
    let mut watch = Watch::of(&north.redis)?;
    let start = Instant::now();
    for link in &east.links {
        link.set(Link::Up(Duration::ZERO));
    }
    while watch.keys()? + COMING_AND_GOING < keys {
        ensure!(start.elapsed() < CUT, "{} keys of {keys}", watch.keys()?);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut seconds = start.elapsed().as_secs_f64();
    while held(&east.redis)? != held(&north.redis)? {
        seconds = start.elapsed().as_secs_f64();
        ensure!(start.elapsed() < CUT, "they differ");
    }
    Ok(seconds)
}
