//! How the cost of both shells grows with instances and workers, and their cost beside requests: memory, start
//! time, and the pause of a worker when an instance is added or removed.

mod memory;
mod sizes;
mod stall;
mod start;
mod turns;
mod workers;

use anyhow::Result;

/// Prints all tables, or those of the parts whose name contains `only`.
pub(crate) async fn measure(only: Option<&str>) -> Result<()> {
    let wanted = |part: &str| only.is_none_or(|only| part.contains(only));
    if wanted("sizes") {
        sizes::measure().await?;
    }
    if wanted("workers") {
        workers::measure().await?;
    }
    if wanted("memory") {
        memory::measure().await?;
    }
    if wanted("start") {
        start::measure().await?;
    }
    if wanted("stall") {
        stall::measure().await?;
    }
    Ok(())
}
