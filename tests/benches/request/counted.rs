//! Instructions a request, by callgrind.
//!
//! Each Envoy warms up uncounted, until V8 has compiled the hot code. Then its instructions are counted
//! while it serves, and for the same time while it is idle; the difference is that of the requests.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use tempfile::TempDir;
use unitring_tests::envoy::Envoy;
use unitring_tests::programs;

use crate::clients::{Client, Owners};
use crate::systems::System;
use unitring_tests::statistics::median;

/// Requests before the count begins.
const WARM_UP: usize = 4_000;
/// Counts of each system.
const ROUNDS: usize = 3;
/// Requests of one count.
const COUNTED: usize = 1_000;
/// The interval between two reports, for the systems that report.
const REPORTS: &str = "60s";
/// Systems that are counted at the same time: other load of the machine does not change the counts.
const AT_A_TIME: usize = 2;

/// The folder for the profiles for `callgrind_annotate`, if one is set.
pub(crate) fn profiles() -> Option<PathBuf> {
    env::var_os("UNITRING_BENCH_PROFILES").map(PathBuf::from)
}

/// Instructions a request, for each system.
pub(crate) async fn measure(systems: &[System], owners: &Owners) -> Result<Vec<f64>> {
    let mut figures = Vec::new();
    for some in systems.chunks(AT_A_TIME) {
        let counts = some.iter().map(|system| of(system, owners));
        for (system, counts) in some.iter().zip(try_join_all(counts).await?) {
            eprintln!("{}: {counts:.0?} instructions a request", system.name);
            figures.push(median(counts)?);
        }
    }
    Ok(figures)
}

async fn of(system: &System, owners: &Owners) -> Result<Vec<f64>> {
    let folder = TempDir::with_prefix("unitring-callgrind-")?;
    let program = programs::part("valgrind")?;
    let valgrind = || {
        let mut valgrind = Command::new(&program);
        valgrind.args(["--tool=callgrind", "--instr-atstart=no", "--quiet"]);
        let file = folder.path().join("counts");
        valgrind.arg(format!("--callgrind-out-file={}", file.display()));
        valgrind
    };
    let config = system.config.clone();
    let config = match system.reports {
        // A report of a thousand instances takes as much as fifty requests and has its own figure:
        // otherwise chance would decide whether a report falls into a count or into the idle time beside
        // it.
        true => config.setting("companion.interval", json!(REPORTS))?,
        false => config,
    };
    let envoy = Envoy::start_under(valgrind, &config, 1).await?;
    system.is_ready(&envoy).await?;
    let mut client = Client::connect(&envoy, system, owners).await?;
    client.send(WARM_UP).await?;
    let callgrind = Callgrind {
        envoy: &envoy,
        folder: folder.path(),
    };
    callgrind.order(&["instrumentation", "on"])?;
    client.send(COUNTED / 4).await?;
    let mut figures = Vec::new();
    for _ in 0..ROUNDS {
        callgrind.order(&["zero"])?;
        let began = Instant::now();
        client.send(COUNTED).await?;
        let took = began.elapsed();
        let busy = callgrind.count()?;
        tokio::time::sleep(took).await;
        let idle = callgrind.count()?;
        figures.push((busy - idle) / f64::from(u32::try_from(COUNTED)?));
    }
    Ok(figures)
}

struct Callgrind<'a> {
    envoy: &'a Envoy,
    folder: &'a Path,
}

impl Callgrind<'_> {
    fn order(&self, words: &[&str]) -> Result<()> {
        let output = Command::new(programs::part("vgdb")?)
            .arg(format!("--pid={}", self.envoy.id()))
            .args(words)
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Instructions since the previous call.
    fn count(&self) -> Result<f64> {
        self.order(&["dump"])?;
        let mut total = None;
        for entry in fs::read_dir(self.folder)? {
            let path = entry?.path();
            let text = fs::read_to_string(&path)?;
            let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
            if let Some(line) = line {
                total = Some(line.trim().parse()?);
                if let Some(profiles) = profiles() {
                    fs::copy(&path, profiles.join(format!("callgrind.{}", line.trim())))?;
                }
                fs::remove_file(&path)?;
            }
        }
        total.context("callgrind wrote no totals")
    }
}
