//! Closed loop: a constant number of reports in flight. It shows the maximum throughput of a companion,
//! and whether a report costs more where more Envoys report.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::{join_all, try_join_all};
use tokio::time::timeout_at;

use super::cores::Cores;
use super::reporter::{Outcome, Reporter};
use super::server::{Server, Store};

const REPORTERS: [usize; 3] = [10, 100, 1_000];
/// Reports in flight at a time; each reporter has at most one.
const UNDER_WAY: usize = 16;
const MEASURED: Duration = Duration::from_secs(4);
/// Time limit for the first reports of all reporters together.
const FIRST_MAX: Duration = Duration::from_secs(10);
/// The interval that the reports announce: long enough that all reporters count, however slow the
/// companion is.
const INTERVAL_MS: u64 = 60_000;

/// The figures of one store with one number of reporters.
struct Figures {
    known: usize,
    per_second: f64,
    per_core_second: f64,
    refused: u32,
    generator_percent: f64,
}

#[derive(Default)]
struct Count {
    taken: u32,
    refused: u32,
}

pub(crate) async fn measure(cores: Cores) -> Result<()> {
    let mut all = Vec::new();
    for store in Store::ALL {
        let server = Server::start(store, cores).await?;
        let mut reporters = Vec::new();
        let mut figures = Vec::new();
        for count in REPORTERS {
            eprintln!("{}: {count} reporters, closed loop", store.name());
            for number in reporters.len()..count {
                reporters.push(Reporter::new(server.port(), number, INTERVAL_MS)?);
            }
            figures.push(with(&server, &mut reporters).await?);
        }
        all.push(figures);
    }
    let heads = Store::ALL.map(|store| {
        let name = store.name();
        format!(
            " {name}: reports/s | for each second of the companion's processor time | refused |"
        )
    });
    println!("| Envoys |{}", heads.concat());
    println!("|---:|{}", "---:|".repeat(3 * heads.len()));
    for (row, count) in REPORTERS.iter().enumerate() {
        let cells = all.iter().filter_map(|figures| figures.get(row)).map(|of| {
            format!(
                " {:.0} | {:.0} | {} |",
                of.per_second, of.per_core_second, of.refused
            )
        });
        println!("| {count} |{}", cells.collect::<String>());
    }
    let busy = all.iter().flatten().map(|of| of.generator_percent);
    let busy = busy.fold(0.0, f64::max);
    println!(
        "\n{UNDER_WAY} reports under way, but no more than there are Envoys, for {} s each; the generator \
         of the load took at most {busy:.0} % of its core.{}\n",
        MEASURED.as_secs(),
        unknown(&all)
    );
    Ok(())
}

/// The message for a companion that did not even get a first report of each reporter.
fn unknown(all: &[Vec<Figures>]) -> String {
    let mut told = String::new();
    for (store, figures) in Store::ALL.iter().zip(all) {
        for (of, count) in figures.iter().zip(REPORTERS) {
            if of.known < count {
                told += &format!(
                    " In {} s only {} of the {count} reported to the companion with {}.",
                    FIRST_MAX.as_secs(),
                    of.known,
                    store.name()
                );
            }
        }
    }
    told
}

async fn with(server: &Server, reporters: &mut [Reporter]) -> Result<Figures> {
    try_join_all(reporters.iter_mut().map(Reporter::connect)).await?;
    // Each lane has its own reporters.
    let mut lanes: Vec<Vec<&mut Reporter>> = Vec::new();
    lanes.resize_with(UNDER_WAY.min(reporters.len()), Vec::new);
    let count = lanes.len();
    for (number, reporter) in reporters.iter_mut().enumerate() {
        if let Some(lane) = lanes.get_mut(number % count) {
            lane.push(reporter);
        }
    }
    let end = Instant::now() + FIRST_MAX;
    let first = lanes.iter_mut().map(|lane| once(lane, end));
    let known = join_all(first).await.into_iter().sum();
    let before = server.used()?;
    let end = Instant::now() + MEASURED;
    let counts = join_all(lanes.iter_mut().map(|lane| until(lane, end))).await;
    let used = server.used()?;
    let taken: u32 = counts.iter().map(|count| count.taken).sum();
    let core_seconds = used.companion_since(before);
    ensure!(core_seconds > 0.0, "the companion did nothing");
    Ok(Figures {
        known,
        per_second: f64::from(taken) / used.seconds_since(before),
        per_core_second: f64::from(taken) / core_seconds,
        refused: counts.iter().map(|count| count.refused).sum(),
        generator_percent: used.generator_percent_since(before),
    })
}

/// Sends one report of each reporter; returns how many the companion took.
async fn once(lane: &mut [&mut Reporter], end: Instant) -> usize {
    let mut known = 0;
    for reporter in lane {
        match timeout_at(end.into(), reporter.report()).await {
            Ok(Outcome::Taken { .. }) => known += 1,
            Ok(Outcome::Refused) => {}
            Err(_) => break,
        }
    }
    known
}

/// Sends the reports of the lane in turn until the end.
async fn until(lane: &mut [&mut Reporter], end: Instant) -> Count {
    let mut count = Count::default();
    loop {
        for reporter in lane.iter_mut() {
            match timeout_at(end.into(), reporter.report()).await {
                Ok(Outcome::Taken { .. }) => count.taken += 1,
                Ok(Outcome::Refused) => count.refused += 1,
                Err(_) => return count,
            }
        }
    }
}
