//! The origin of figures: the machine, the versions, the command.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use unitring_tests::programs;

/// The line below a table.
pub(crate) fn origin(area: &str) -> Result<String> {
    let cores = available_parallelism()?;
    Ok(format!(
        "{} with {cores} cores, Linux {}, Envoy {}, unitring {}: `make bench AREA={area}`.",
        processor().unwrap_or_else(|| "A machine".to_owned()),
        fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        envoy_version()?,
        env!("CARGO_PKG_VERSION"),
    ))
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, model) = fields.find(|(name, _)| name.trim() == "model name")?;
    Some(model.trim().to_owned())
}

/// Envoy prints `envoy  version: <commit>/<version>/<state>/<build>/<TLS library>`.
fn envoy_version() -> Result<String> {
    let output = Command::new(programs::part("envoy")?)
        .arg("--version")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // The program's path comes first, and has slashes, too.
    let built = text.split_once("version: ").map(|(_, built)| built);
    let version = built.and_then(|built| built.split('/').nth(1));
    Ok(version
        .context("Envoy does not say its version")?
        .to_owned())
}
