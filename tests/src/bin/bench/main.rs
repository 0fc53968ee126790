//! `make bench`: measures, mostly on real servers, and writes the tables into `docs/`. `AREA=load`
//! measures only the area of that name.
//!
//! A table stands between `<!-- bench:<area> -->` and `<!-- /bench:<area> -->`, with the machine, the
//! versions and the command, so that every figure in the docs has its origin.

mod criterion;
mod load;
mod machine;
mod protocol;
mod routing;
mod store;
mod sync;
mod table;
mod target;

use std::env;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use unitring_tests::{process, programs};

/// The areas that can be measured, and the page that shows each.
const AREAS: [(&str, &str); 11] = [
    ("request", "docs/benchmarks.md"),
    ("updates", "docs/updates.md"),
    ("scale", "docs/benchmarks.md"),
    ("load", "docs/bound.md"),
    ("routing", "docs/placement.md"),
    ("protocol", "docs/benchmarks.md"),
    ("store", "docs/store.md"),
    ("sync", "docs/sync.md"),
    ("companion", "docs/companion.md"),
    ("tcp", "docs/tcp.md"),
    ("traces", "docs/traces.md"),
];

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    process::be_quiet();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = measure_all(env::args().nth(1)) => outcome,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

async fn measure_all(wanted: Option<String>) -> Result<()> {
    let is_wanted = |area: &str| wanted.as_deref().is_none_or(|wanted| wanted == area);
    let areas: Vec<_> = AREAS.iter().filter(|(area, _)| is_wanted(area)).collect();
    if areas.is_empty() {
        let known = AREAS.map(|(area, _)| area).join(", ");
        bail!(
            "AREA={}: must be one of {known}",
            wanted.unwrap_or_default()
        );
    }
    for (area, page) in areas {
        eprintln!("== measuring: {area}");
        let measured = match *area {
            "request" => target::output("request", &[]).await?,
            "updates" => target::output("request", &["updates"]).await?,
            "scale" => target::output("request", &["scale"]).await?,
            "load" => load::measure().await?,
            "routing" => routing::measure().await?,
            "protocol" => protocol::measure().await?,
            "store" => store::measure().await?,
            "sync" => sync::measure().await?,
            "companion" => target::output("companion", &[]).await?,
            "tcp" => target::output("tcp", &[]).await?,
            "traces" => target::output("traces", &[]).await?,
            other => bail!("{other}: nobody measures it"),
        };
        let text = format!("{measured}\n{}", machine::origin(area)?);
        println!("\n{text}");
        let path = programs::root()?.join(page);
        let before = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let after = table::replaced(&before, area, &text)
            .with_context(|| format!("{page} has no place marked bench:{area}"))?;
        fs::write(&path, after)?;
        println!("written to {page}");
    }
    Ok(())
}
