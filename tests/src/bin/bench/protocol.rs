//! The filter's cost of a report and its answer, without Envoy: criterion's figures of `balancer/benches/`.

use anyhow::Result;

use super::criterion::{self, Group, INSTANCES};

const GROUPS: [Group; 1] = [Group {
    title: "What a report and its answer cost, native",
    unit: ("µs", 1e3),
    columns: INSTANCES,
    rows: &[
        ("interval/report", "a report, gathered and encoded"),
        ("interval/snapshot", "the answer, decoded"),
    ],
}];

/// Runs all of them and returns the tables.
pub(crate) async fn measure() -> Result<String> {
    let tables = criterion::tables("interval", &GROUPS).await?;
    Ok(format!("{tables}Medians of criterion; one thread.\n"))
}
