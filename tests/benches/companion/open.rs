//! Open loop: every reporter sends when its report is due, like an Envoy, whether the companion keeps up
//! or not. The latency of a report includes its wait for the previous one on its connection.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout_at};
use unitring_tests::browser::{Look, Page};
use unitring_tests::scrape::{self, Sample};
use unitring_tests::statistics::quantile;

use super::body::INSTANCES;
use super::cores::Cores;
use super::reporter::{Outcome, Reporter};
use super::server::{Server, Store};

pub(crate) const REPORTERS: u32 = 1_000;
/// The interval of each reporter.
const INTERVAL: Duration = Duration::from_secs(1);
const INTERVAL_MS: u64 = 1_000;
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(10);
/// How long after the end answers are still awaited.
const PATIENCE: Duration = Duration::from_secs(20);

/// A report and its outcome.
struct Done {
    due: Instant,
    at: Instant,
    outcome: Outcome,
}

/// The figures of one store.
struct Figures {
    per_second: f64,
    /// The latency of each report that was due, sorted; infinite for a report that was not taken.
    latencies_ms: Vec<f64>,
    refused: usize,
    unanswered: usize,
    companion_percent: f64,
    redis_percent: Option<f64>,
    generator_percent: f64,
    report_bytes: usize,
    answer_bytes: usize,
    resident_kib: f64,
    /// For which part of the time the companion worked for the watcher.
    watched_percent: f64,
}

pub(crate) async fn measure(cores: Cores) -> Result<()> {
    println!(
        "| {REPORTERS} Envoys, a report a second each | reports/s | p50, ms | p99, ms | max, ms | refused | unanswered \
         | companion, % of a core | Redis, % of a core | memory an Envoy, KiB |"
    );
    println!("|---|{}", "---:|".repeat(9));
    let (mut report, mut answer, mut busy) = (0, 0, 0_f64);
    let (mut consoles, mut scrapes) = (Vec::new(), Vec::new());
    for store in Store::ALL {
        eprintln!("{}: {REPORTERS} reporters, open loop", store.name());
        let figures = at(store, cores, Watcher::Nobody).await?;
        println!("{}", row(store, &figures)?);
        busy = busy.max(figures.generator_percent);
        report = figures.report_bytes;
        answer = answer.max(figures.answer_bytes);
        for (watcher, name, told) in [
            (Watcher::Console, "a console is open", &mut consoles),
            (
                Watcher::Scraper,
                "/metrics is read each second",
                &mut scrapes,
            ),
        ] {
            eprintln!("{}: the same while {name}", store.name());
            let watched = at(store, cores, watcher).await?;
            told.push(format!(
                "{}: {:.1} %",
                store.name(),
                watched.watched_percent
            ));
        }
    }
    println!(
        "\n{INSTANCES} instances in each report, which has {report} bytes, and its answer {answer}; reports are due \
         evenly spread over the second; from the moment when one is due to the last byte of its answer; of those due in {} s \
         after {} s of warming up; what has no answer {} s later is unanswered. A report that was not taken \
         counts as one that takes for ever. Memory is what the resident set grew by from before the first \
         connection. The generator of the load took {busy:.0} % of its core. With [a console](console.md) open that shows the \
         service, the companion worked on its requests for this part of the time: {}; on `/metrics`, read each second: {}. \
         (By `unitring_companion_request_duration_seconds_sum`: waits for the store count, too.)\n",
        MEASURED.as_secs(),
        WARM_UP.as_secs(),
        PATIENCE.as_secs(),
        consoles.join(", "),
        scrapes.join(", "),
    );
    Ok(())
}

fn row(store: Store, figures: &Figures) -> Result<String> {
    let ms = |share: f64| {
        let ms = quantile(&figures.latencies_ms, share).context("no report was due")?;
        anyhow::Ok(if ms.is_finite() {
            format!("{ms:.1}")
        } else {
            "never".to_owned()
        })
    };
    let redis = figures.redis_percent;
    Ok(format!(
        "| {} | {:.0} | {} | {} | {} | {} | {} | {:.0} | {} | {:.0} |",
        store.name(),
        figures.per_second,
        ms(0.5)?,
        ms(0.99)?,
        ms(1.0)?,
        figures.refused,
        figures.unanswered,
        figures.companion_percent,
        redis.map_or_else(|| "–".to_owned(), |percent| format!("{percent:.0}")),
        figures.resident_kib,
    ))
}

/// The client that watches the companion, beside the Envoys.
#[derive(Clone, Copy)]
enum Watcher {
    Nobody,
    Console,
    Scraper,
}

async fn at(store: Store, cores: Cores, watcher: Watcher) -> Result<Figures> {
    let server = Server::start(store, cores).await?;
    let resident = server.resident_bytes()?;
    let (done, mut all_done) = mpsc::unbounded_channel();
    let mut reporters = JoinSet::new();
    let mut wake = Vec::new();
    let mut report_bytes = 0;
    for number in 0..usize::try_from(REPORTERS)? {
        let mut reporter = Reporter::new(server.port(), number, INTERVAL_MS)?;
        reporter.connect().await?;
        report_bytes = reporter.report_bytes()?;
        let (sender, receiver) = mpsc::unbounded_channel();
        wake.push(sender);
        reporters.spawn(report_when_due(reporter, receiver, done.clone()));
    }
    drop(done);
    let start = Instant::now() + Duration::from_millis(100);
    let (begin, end) = (start + WARM_UP, start + WARM_UP + MEASURED);
    let clock = thread::spawn(move || tick(&wake, start, end));
    let console = match watcher {
        Watcher::Console => Some(console(server.port()).await?),
        Watcher::Nobody | Watcher::Scraper => None,
    };
    let mut scraper = JoinSet::new();
    if matches!(watcher, Watcher::Scraper) {
        scraper.spawn(scrape_each_second(server.port()));
    }
    sleep_until(begin.into()).await;
    let (before, watched_before) = (
        server.used()?,
        watched_seconds(server.port(), watcher).await?,
    );
    sleep_until(end.into()).await;
    let (used, watched) = (
        server.used()?,
        watched_seconds(server.port(), watcher).await?,
    );
    drop(console);
    // One that ended early scraped nothing.
    if let Some(ended) = scraper.try_join_next() {
        ended??;
    }
    let resident_now = server.resident_bytes()?;
    let mut reports = Vec::new();
    // The channel closes early once all reporters have ended, after the last answer.
    while let Ok(Some(report)) = timeout_at((end + PATIENCE).into(), all_done.recv()).await {
        reports.push(report);
    }
    reporters.shutdown().await;
    let due = clock
        .join()
        .map_err(|_| anyhow::anyhow!("the clock died"))?;
    let due = due.into_iter().filter(|due| *due >= begin).count();
    let seconds = used.seconds_since(before);
    let grown = resident_now.saturating_sub(resident);
    let (in_time, answer_bytes) = taken_between(&reports, begin, end);
    reports.retain(|report| report.due >= begin);
    let is_refused = |report: &&Done| report.outcome == Outcome::Refused;
    Ok(Figures {
        per_second: f64::from(in_time) / MEASURED.as_secs_f64(),
        refused: reports.iter().filter(is_refused).count(),
        unanswered: due.saturating_sub(reports.len()),
        latencies_ms: latencies_ms(&reports, due),
        watched_percent: (watched - watched_before) / seconds * 100.0,
        companion_percent: used.companion_since(before) / seconds * 100.0,
        redis_percent: used.redis_since(before).map(|used| used / seconds * 100.0),
        generator_percent: used.generator_percent_since(before),
        report_bytes,
        answer_bytes,
        resident_kib: f64::from(u32::try_from(grown / 1024)?) / f64::from(REPORTERS),
    })
}

/// How long the companion has worked on the watcher's requests, in seconds; 0 without a watcher.
async fn watched_seconds(port: u16, watcher: Watcher) -> Result<f64> {
    if matches!(watcher, Watcher::Nobody) {
        return Ok(0.0);
    }
    let page = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await?;
    let samples = scrape::samples(&page.text().await?)?.into_iter();
    let is_theirs = |sample: &Sample| {
        let is = |label: &str, value: &str| sample.labels.get(label).is_some_and(|is| is == value);
        let is_scrape = is("route", "/metrics");
        is("method", "GET") && is_scrape == matches!(watcher, Watcher::Scraper)
    };
    let name = "unitring_companion_request_duration_seconds_sum";
    let theirs = samples.filter(|sample| sample.name == name && is_theirs(sample));
    Ok(theirs.map(|sample| sample.value).sum())
}

/// Reads the metrics each second.
async fn scrape_each_second(port: u16) -> Result<()> {
    let (client, mut every) = (reqwest::Client::new(), tokio::time::interval(INTERVAL));
    for scrape in 0_u32.. {
        every.tick().await;
        let url = format!("http://127.0.0.1:{port}/metrics");
        let page = client.get(url).send().await?.error_for_status()?;
        let text = page.text().await?;
        // The first may come before any report.
        let has_fleet = text.contains("unitring_companion_instance_in_flight{");
        anyhow::ensure!(scrape < 3 || has_fleet, "{text}");
    }
    Ok(())
}

/// A browser that shows the service. It runs on the generator's core.
async fn console(port: u16) -> Result<Page> {
    let page = Page::start(Look::DESK).await?;
    page.goes_to(&format!("http://127.0.0.1:{port}/ui/#/service/orders"))
        .await?;
    Ok(page)
}

/// Tells each reporter when its reports are due, and returns all these moments. It is a thread because
/// the runtime's timers have a resolution of a millisecond.
fn tick(wake: &[mpsc::UnboundedSender<Instant>], start: Instant, end: Instant) -> Vec<Instant> {
    let apart = INTERVAL / REPORTERS;
    let mut all = Vec::new();
    let mut due = start;
    for reporter in wake.iter().cycle() {
        if due >= end {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A reporter is gone only when all reporters are.
        if reporter.send(due).is_err() {
            break;
        }
        all.push(due);
        due += apart;
    }
    all
}

async fn report_when_due(
    mut reporter: Reporter,
    mut all_due: mpsc::UnboundedReceiver<Instant>,
    done: mpsc::UnboundedSender<Done>,
) {
    while let Some(due) = all_due.recv().await {
        let outcome = reporter.report().await;
        let at = Instant::now();
        if done.send(Done { due, at, outcome }).is_err() {
            return;
        }
    }
}

/// How many reports were taken in this period, and the size of the last of their answers.
fn taken_between(reports: &[Done], begin: Instant, end: Instant) -> (u32, usize) {
    let (mut count, mut bytes) = (0, 0);
    for report in reports {
        if let Outcome::Taken { answer_bytes } = report.outcome
            && (begin..end).contains(&report.at)
        {
            count += 1;
            bytes = answer_bytes;
        }
    }
    (count, bytes)
}

fn latencies_ms(reports: &[Done], due: usize) -> Vec<f64> {
    let taken = |report: &&Done| report.outcome != Outcome::Refused;
    let taken = reports.iter().filter(taken);
    let latency = |report: &Done| report.at.duration_since(report.due).as_secs_f64() * 1e3;
    let mut latencies: Vec<f64> = taken.map(latency).collect();
    latencies.resize(due, f64::INFINITY);
    latencies.sort_by(f64::total_cmp);
    latencies
}
