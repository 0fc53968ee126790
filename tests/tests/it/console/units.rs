//! Two units with their Redis and RabbitMQ: links, what waits, conflicts, and the group of servers.

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use unitring_tests::companion::Settings;
use unitring_tests::deadline::until;
use unitring_tests::redis::Redis;
use unitring_tests::unit_group::{Brokers, UnitGroup};

use super::{goes, opened, origin, rows, serves_everybody};

#[tokio::test(flavor = "multi_thread")]
async fn the_console_shows_the_links_of_two_units_what_waits_and_what_is_cut() -> Result<()> {
    let mut group = UnitGroup::start(2, Brokers::One, |settings| settings).await?;
    let east = group.member("east")?;
    let north = group.member("north")?;
    for number in 0..20 {
        let (from, to) = match number % 2 {
            0 => (east, north),
            _ => (north, east),
        };
        let (key, value) = (format!("k{number}"), format!("v{number}"));
        from.companion.put_record(&key, &value).await?;
        to.companion.has_record(&key, &value).await?;
    }
    let page = opened(&east.companion).await?;
    goes(&page, "units", "Units").await?;
    until("the console to show the link as the API does", async || {
        let said = east.companion.get("/v1/units").await?;
        let link = &said["sync"]["links"]["north"];
        let shown = rows(&page, "Links").await?;
        let row = shown.first().context("no link")?;
        let p50 = format!("{} ms", link["lag"]["p50_ms"]);
        let confirmed = link["confirmed"].to_string();
        ensure!(
            row[0] == "north"
                && row[1] == "ok"
                && row[2] == p50
                && row[5] == "0"
                && row[8] == confirmed,
            "{row:?}, and the API says {link}"
        );
        Ok(())
    })
    .await?;

    // Both units change a record that they do not know of each other, with the broker away.
    let lost = |text: &str| format!("document.querySelector('main').innerText.includes('{text}')");
    group.rabbits[0].kill()?;
    page.until("document.querySelector('table[aria-label=\"Links\"] .mark.unhealthy') !== null")
        .await?;
    let (east, north) = (group.member("east")?, group.member("north")?);
    for member in [east, north] {
        let path = "/v1/data/profiles/both";
        let body = member.name.clone().into_bytes();
        let put = member.companion.call(Method::PUT, path, body).await?;
        ensure!(put.status().is_success(), "{}", put.status());
    }
    page.until(&lost("1 of 1,000,000 ops")).await?;
    page.until("document.getElementById('banner').innerText.includes('link: ')")
        .await?;
    group.rabbits[0].restart().await?;
    page.until(&lost("profiles/both")).await?;
    page.until("document.getElementById('banner').innerText === ''")
        .await?;

    let views = [("units", "Units")];
    serves_everybody(&page, &views).await?;
    let east = group.member("east")?;
    let faults = page.faults(&origin(&east.companion), &[503]);
    ensure!(faults.is_empty(), "{faults:#?}");

    // A group of one server.
    let redis = Redis::start().await?;
    let watched = Settings::on_redis(&redis)
        .variable("UNITRING_GROUP_SERVERS", &redis.url())
        .start()
        .await?;
    watched.is_ready().await?;
    let page = opened(&watched).await?;
    goes(&page, "group", "Group").await?;
    page.until("document.querySelector('table[aria-label=\"Servers\"]')?.offsetParent != null")
        .await?;
    until("the console to show what the API says", async || {
        let said = watched.get("/v1/group").await?;
        let shown = rows(&page, "Servers").await?;
        let row = shown.first().context("no server")?;
        let server = &said["servers"][0];
        ensure!(
            server["server"] == row[0].as_str() && server["role"] == row[2].as_str(),
            "{row:?}, and the API says {server}"
        );
        Ok(())
    })
    .await?;
    serves_everybody(&page, &[("group", "Group")]).await?;
    let faults = page.faults(&origin(&watched), &[]);
    ensure!(faults.is_empty(), "{faults:#?}");
    Ok(())
}
