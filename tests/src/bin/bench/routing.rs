//! What a choice and a change of membership cost without Envoy: criterion's figures of
//! `routing/benches/`, as a table.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use unitring_tests::programs;

use super::table;

/// Numbers of instances, as `routing/benches/routing/fleet.rs` has them.
const SIZES: [&str; 3] = ["4", "100", "1000"];

/// What is shown of one group of measurements.
struct Group {
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    per_unit: f64,
    rows: &'static [(&'static str, &'static str)],
}

const GROUPS: [Group; 3] = [
    Group {
        name: "lookup",
        title: "A key's hash and its owner, 256 points for each instance",
        unit: "ns",
        per_unit: 1.0,
        rows: &[
            ("unitring", "unitring"),
            ("btreemap", "`BTreeMap<u64, u32>`, `range`"),
            ("pingora-ketama", "`pingora-ketama` (points of 32 bits)"),
        ],
    },
    Group {
        name: "select",
        title: "The whole choice: hash, owner, bound, three candidates, place taken and given back",
        unit: "ns",
        per_unit: 1.0,
        rows: &[
            ("fixed", "256 points for each instance"),
            ("envoy", "`fill: envoy`, its defaults"),
            ("maglev", "`maglev`, its defaults"),
            ("fixed-busy", "256 points; a fifth of the instances full"),
            ("fixed-full", "256 points; every instance at its hard cap"),
        ],
    },
    Group {
        name: "add",
        title: "One instance comes, 256 points for each",
        unit: "µs",
        per_unit: 1e3,
        rows: &[
            ("unitring-merge", "unitring: a merge"),
            ("unitring-rebuild", "unitring: the ring made anew"),
            ("btreemap-insert", "`BTreeMap`, in place"),
            (
                "btreemap-copy-and-insert",
                "`BTreeMap`, a copy for readers to swap to",
            ),
            (
                "pingora-ketama-rebuild",
                "`pingora-ketama`, which is only made anew",
            ),
        ],
    },
];

/// Runs all of them and returns the tables.
pub(crate) async fn measure() -> Result<String> {
    let home = TempDir::new()?;
    let status = Command::new("cargo")
        .args([
            "bench",
            "--package",
            "unitring-routing",
            "--bench",
            "routing",
        ])
        .env("CRITERION_HOME", home.path())
        .current_dir(programs::root()?)
        .status()
        .await?;
    ensure!(status.success(), "cargo bench: {status}");
    let mut text = String::new();
    for group in &GROUPS {
        let heads: Vec<String> = SIZES.map(|size| format!("{size} instances")).into();
        let heads: Vec<&str> = [""]
            .into_iter()
            .chain(heads.iter().map(String::as_str))
            .collect();
        let rows: Result<Vec<_>> = group
            .rows
            .iter()
            .map(|row| group.row(*row, home.path()))
            .collect();
        let table = table::markdown(&heads, &rows?);
        text.push_str(&format!("{}, in {}:\n\n{table}\n", group.title, group.unit));
    }
    text.push_str("Medians of criterion; native, one thread, the ring warm in the cache.\n");
    Ok(text)
}

impl Group {
    fn row(&self, (system, title): (&str, &str), home: &Path) -> Result<Vec<String>> {
        let mut row = vec![title.to_owned()];
        for size in SIZES {
            let folder = home.join(self.name).join(system).join(size);
            let time = median_ns(&folder.join("new/estimates.json"))? / self.per_unit;
            row.push(if time < 100.0 {
                format!("{time:.1}")
            } else {
                format!("{time:.0}")
            });
        }
        Ok(row)
    }
}

fn median_ns(file: &Path) -> Result<f64> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let estimates: Value = serde_json::from_str(&text)?;
    let median = estimates
        .pointer("/median/point_estimate")
        .and_then(Value::as_f64);
    median.with_context(|| format!("{} has no median", file.display()))
}
