//! A criterion target of another crate: runs it, and makes tables of the medians in its result files.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::{table, target};

/// Numbers of instances that the targets use: criterion's folder, and the column's head.
pub(crate) const INSTANCES: [(&str, &str); 3] = [
    ("4", "4 instances"),
    ("100", "100 instances"),
    ("1000", "1000 instances"),
];

/// One table.
pub(crate) struct Group {
    /// The text above it.
    pub(crate) title: &'static str,
    /// The unit of its figures, and that unit in ns.
    pub(crate) unit: (&'static str, f64),
    /// The last part of criterion's names, and the column's head.
    pub(crate) columns: [(&'static str, &'static str); 3],
    /// Criterion's `<group>/<function>`, and the text in the first column.
    pub(crate) rows: &'static [(&'static str, &'static str)],
}

/// Runs the whole target and returns the tables.
pub(crate) async fn tables(bench: &str, groups: &[Group]) -> Result<String> {
    let home = TempDir::new()?;
    let status = target::command(bench)?
        .env("CRITERION_HOME", home.path())
        .status()
        .await?;
    ensure!(status.success(), "cargo bench: {status}");
    let tables: Result<Vec<_>> = groups
        .iter()
        .map(|group| group.table(home.path()))
        .collect();
    Ok(tables?.concat())
}

impl Group {
    fn table(&self, home: &Path) -> Result<String> {
        let (unit, _) = self.unit;
        let heads: Vec<&str> = [""]
            .into_iter()
            .chain(self.columns.map(|(_, head)| head))
            .collect();
        let rows: Result<Vec<_>> = self.rows.iter().map(|row| self.row(*row, home)).collect();
        let table = table::markdown(&heads, &rows?);
        Ok(format!("{}, in {unit}:\n\n{table}\n", self.title))
    }

    fn row(&self, (function, title): (&str, &str), home: &Path) -> Result<Vec<String>> {
        let mut row = vec![title.to_owned()];
        let (_, unit_ns) = self.unit;
        for (column, _) in self.columns {
            let folder = home.join(function).join(column);
            let time = median_ns(&folder.join("new/estimates.json"))? / unit_ns;
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
