//! Instructions a request with few instances and with many.

use anyhow::{Context as _, Result};
use unitring_tests::companion::Settings;

use crate::base::Base;
use crate::clients::Owners;
use crate::counted;
use crate::upstream::Upstream;

const SIZES: [u32; 3] = [4, 100, 1_000];

pub(super) async fn measure() -> Result<()> {
    let companion = Settings::default().start().await?;
    let mut columns = Vec::new();
    for size in SIZES {
        let upstream = Upstream::start(size).await?;
        let base = Base::new(&upstream.addresses, &companion)?;
        let systems = base.shells()?;
        eprintln!("{size} instances");
        let counts = counted::measure(&systems, &Owners::new()).await?;
        columns.push((systems.map(|system| system.name), counts));
    }
    println!(
        "Instructions a request, and beside them the ratio to RING_HASH with as many instances:\n"
    );
    println!("| | 4 instances | 100 | 1,000 | 1,000 to 4 |");
    println!("|---|---:|---:|---:|---:|");
    let (names, _) = columns.first().context("nothing was measured")?;
    for (row, name) in names.iter().enumerate() {
        let counts: Option<Vec<(f64, f64)>> = columns
            .iter()
            .map(|(_, counts)| Some((*counts.get(row)?, *counts.first()?)))
            .collect();
        let counts = counts.context("a count is missing")?;
        let cells: Vec<String> = counts
            .iter()
            .map(|(count, ring_hash)| format!("{:.1} k ({:.3})", count / 1e3, count / ring_hash))
            .collect();
        let ends = counts.first().zip(counts.last());
        let growth = ends.map_or(f64::NAN, |((few, _), (many, _))| many / few);
        println!("| {name} | {} | {growth:.3} |", cells.join(" | "));
    }
    println!();
    Ok(())
}
