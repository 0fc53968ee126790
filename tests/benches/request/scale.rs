//! How the filter's cost grows with instances and workers, and what it costs beside requests: memory,
//! time at the start, and a pause of a worker when an instance comes or goes.

mod memory;
mod sizes;
mod stall;
mod start;
mod workers;

use anyhow::Result;

/// Prints all tables.
pub(crate) async fn measure() -> Result<()> {
    sizes::measure().await?;
    workers::measure().await?;
    memory::measure().await?;
    start::measure().await?;
    stall::measure().await
}
