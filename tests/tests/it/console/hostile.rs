//! The console with names that are markup, a thousand instances, no reports, and no companion.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::report::{instance, report, service};

use super::{goes, opened, origin, rows};

/// Names that would run, if a page took them for markup.
const NAMES: [&str; 4] = [
    "<img src=x onerror=\"window.hurt=1\">",
    "\"><script>window.hurt=1</script>",
    "javascript:window.hurt=1",
    "../../ui/#/services?a=b&c=d%00\u{202e}'",
];

/// A report that counts for ten minutes.
fn lasting(reporter: &str, services: Vec<Value>) -> Value {
    let mut report = report(reporter, 1, services);
    report["interval_ms"] = json!(120_000);
    report
}

fn strange(name: &str) -> Value {
    let mut made = service(name, vec![instance("10.0.0.1:80", "10.0.0.1:80", 1)]);
    made["instances"][0]["id"] = json!("<b>bold</b>");
    made["wiring"] = json!([{
        "kind": "<i>kind</i>", "seen": "<img src=x onerror=window.hurt=1>", "mend": "</dd><script>window.hurt=1</script>",
    }]);
    made["events"] = json!([{
        "number": 1, "at_ms": 1, "kind": "ejected", "instance": "<b>bold</b>", "reason": "<svg onload=window.hurt=1>",
        "ring": "r", "moved": 0.5,
    }]);
    made
}

fn many() -> Value {
    let one = |number: usize| {
        let address = format!("10.1.{}.{}:80", number / 250, number % 250);
        let mut made = instance(&address, &address, 1);
        made["healthy"] = json!(number != 777 && number != 888);
        // As a filter reports it: neither draining nor failing instances take keys.
        made["draining"] = json!(number == 888);
        made["warmth"] = json!(if number == 999 { 30 } else { 100 });
        made
    };
    service("many", (0..1_000).map(one).collect())
}

/// The summary that the page asks for has the same sums, the age of a report, and the cost of the answer.
async fn sums_up(companion: &Companion) -> Result<()> {
    let list = companion
        .get("/v1/services?summary=true&limit=1&after=l")
        .await?;
    let sums = &list["services"][0];
    let of = |field: &str| sums[field].as_u64();
    for (field, expected) in [
        ("instances", 1_000),
        ("unhealthy", 1),
        ("draining", 1),
        ("warming", 1),
        ("calls", 10_000),
        ("in_flight", 1_000),
        ("reporters", 1),
        ("registered", 0),
    ] {
        ensure!(of(field) == Some(expected), "{field}: {list}");
    }
    let one = companion
        .call(Method::GET, "/v1/services/many", vec![])
        .await?;
    let timing = one.headers().get("server-timing").cloned();
    let timing = timing.as_ref().and_then(|value| value.to_str().ok());
    let cost = timing.and_then(|text| text.strip_prefix("app;dur="));
    let cost: f64 = cost.context("no server-timing")?.parse()?;
    ensure!(cost > 0.0, "{cost}");
    let one: Value = one.json().await?;
    let age = one["reporters"][0]["age_ms"].as_u64();
    ensure!(age.is_some_and(|age| age < 60_000), "{age:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_markup_are_text_and_a_thousand_instances_and_an_outage_are_shown_plainly()
-> Result<()> {
    let mut companion = Settings::default().start().await?;
    let page = opened(&companion).await?;
    page.until("document.querySelector('main').innerText.includes('No Envoy has reported yet')")
        .await?;
    page.until("document.querySelector('main').innerText.includes('unitring demo')")
        .await?;

    let long = "x".repeat(512);
    let mut names = NAMES.to_vec();
    names.push(&long);
    let services = names.iter().map(|name| strange(name)).collect();
    companion.report(&lasting("<u>envoy</u>", services)).await?;
    companion.report(&lasting("envoy~2", vec![many()])).await?;
    sums_up(&companion).await?;
    for name in &names {
        let text = serde_json::to_string(name)?;
        page.until(&format!(
            "[...document.links].some(link => link.textContent === {text})"
        ))
        .await?;
        page.value(&format!(
            "[...document.links].find(link => link.textContent === {text}).click()"
        ))
        .await?;
        page.until("document.querySelector('main').innerText.includes('<b>bold</b>')")
            .await?;
        page.until(
            "document.querySelector('.finding')?.innerText.includes('<i>kind</i>') === true",
        )
        .await?;
        page.until(
            "document.querySelector('main').innerText.includes('<svg onload=window.hurt=1>')",
        )
        .await?;
        let is_named =
            format!("document.querySelector('h1').textContent === {text} || {text}.length > 120");
        page.until(&is_named).await?;
        let wide = page.value("document.documentElement.scrollWidth <= innerWidth");
        ensure!(wide.await? == true, "{name} makes the page wider");
        goes(&page, "services", "Services").await?;
    }
    let hurt = "window.hurt === undefined && document.querySelectorAll('main img, main script, main iframe').length === 0";
    ensure!(page.value(hurt).await? == true, "a name ran");

    // The worst of a thousand first; all of them on demand, and the page answers soon all the time.
    goes(&page, "service/many", "many").await?;
    let count = "document.querySelectorAll('table[aria-label=\"Instances\"] tbody tr').length";
    page.until(&format!("{count} === 50")).await?;
    let first = rows(&page, "Instances").await?;
    let states: Vec<&str> = first.iter().take(4).map(|row| row[1].as_str()).collect();
    assert_eq!(
        states,
        ["unhealthy", "draining", "warming, 30 %", "healthy"]
    );
    page.value("[...document.querySelectorAll('.more')].find(one => one.textContent === 'Show all 1,000: 950 more').click()")
        .await?;
    page.until(&format!("{count} === 1000")).await?;
    let started = Instant::now();
    for _ in 0..20 {
        page.value("new Promise(done => requestAnimationFrame(() => done(1)))")
            .await?;
    }
    let taken = started.elapsed();
    // A busy machine may need this long; a page that redraws all rows for each frame takes much longer.
    ensure!(taken < Duration::from_secs(60), "20 frames took {taken:?}");
    page.value("document.querySelector('main [data-filter]').focus()")
        .await?;
    page.types("10.1.3.27:80").await?;
    page.until(&format!("{count} === 1")).await?;

    // The companion goes, and comes back.
    companion.kill()?;
    page.until(
        "document.getElementById('banner').innerText.includes('The companion does not answer')",
    )
    .await?;
    companion.restart().await?;
    // Unless it has asked again by itself.
    page.value("document.querySelector('#banner button')?.click()")
        .await?;
    page.until("document.getElementById('banner').innerText === ''")
        .await?;
    page.until("document.querySelector('h1').textContent === 'many'")
        .await?;

    // A hidden page asks nothing.
    page.value(
        "Object.defineProperty(document, 'hidden', {value: true}); document.dispatchEvent(new Event('visibilitychange'))",
    )
    .await?;
    let mut last = (page.requests().len(), Instant::now());
    until(
        "the hidden page to be silent for longer than it ever is",
        async || {
            let now = page.requests().len();
            if now != last.0 {
                last = (now, Instant::now());
            }
            ensure!(last.1.elapsed() > Duration::from_secs(6), "it asks");
            Ok(())
        },
    )
    .await?;
    // Reports need not outlast a crash: the restarted companion may not know the service, or not be ready at once.
    let faults = page.faults(&origin(&companion), &[404, 503]);
    // What a companion that is gone refuses or has not answered to its end.
    const GONE: [&str; 6] = [
        "net::ERR_CONNECTION_REFUSED",
        "net::ERR_CONNECTION_RESET",
        "net::ERR_CONNECTION_CLOSED",
        "net::ERR_EMPTY_RESPONSE",
        "net::ERR_INCOMPLETE_CHUNKED_ENCODING",
        "net::ERR_CONTENT_LENGTH_MISMATCH",
    ];
    let is_other = |fault: &&String| !GONE.iter().any(|gone| fault.contains(gone));
    let faults: Vec<&String> = faults.iter().filter(is_other).collect();
    ensure!(faults.is_empty(), "{faults:#?}");
    Ok(())
}
