//! The console shows the API's values of a real Envoy and its instances.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::browser::Page;
use unitring_tests::companion::Companion;
use unitring_tests::deadline::until;
use unitring_tests::envoy::keys;
use unitring_tests::site::Site;

use super::{goes, opened, origin, rows, serves_everybody};

fn percent(share: &Value) -> String {
    format!("{:.1} %", share.as_f64().unwrap_or_default() * 100.0)
}

/// The instances as the table of the console has to show them: name, load, share, weight, calls, failures.
async fn expected(companion: &Companion) -> Result<Vec<[String; 6]>> {
    let said = companion.get("/v1/services/orders?shares=true").await?;
    let instances = said["instances"].as_array().context("no instances")?;
    let rows = instances.iter().map(|one| {
        [
            one["id"].as_str().unwrap_or_default().to_owned(),
            format!("{} / {}", one["in_flight"], one["capacity"]),
            percent(&one["share"]),
            one["weight"].to_string(),
            one["calls"].to_string(),
            one["failures"].to_string(),
        ]
    });
    Ok(rows.collect())
}

/// Waits until the table of instances equals the API's answer.
async fn agrees(page: &Page, companion: &Companion) -> Result<()> {
    until("the console to show what the API says", async || {
        let expected = expected(companion).await?;
        let shown: Vec<[String; 6]> = rows(page, "Instances")
            .await?
            .into_iter()
            .map(|row| {
                // The first cell begins with the number of the instance's part of the ring.
                let cell = |at: usize| row.get(at).cloned().unwrap_or_default();
                let name = cell(0).split(' ').nth(1).unwrap_or_default().to_owned();
                [name, cell(2), cell(3), cell(4), cell(8), cell(9)]
            })
            .collect();
        ensure!(shown == expected, "shown {shown:?}, said {expected:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_shows_what_the_api_says_and_is_used_by_keyboard_alone() -> Result<()> {
    // Requests that wait are in flight for as long as it takes to look at them.
    let mut site = Site::start_with(|config| {
        config.edit_connections(|manager| {
            let route = "/route_config/virtual_hosts/0/routes/0/route";
            let route = manager.pointer_mut(route).context("no route")?;
            route["timeout"] = json!("600s");
            Ok(())
        })
    })
    .await?;
    site.envoy.owners(&keys(60)).await?;
    let page = opened(&site.companion).await?;
    page.until("[...document.links].some(link => link.textContent === 'orders')")
        .await?;
    let services = rows(&page, "Services").await?;
    let (service, instances) = (&services[0][0], &services[0][2]);
    assert_eq!((service.as_str(), instances.as_str()), ("orders", "4"));

    // From the top of the page to the service, without a mouse.
    let focused = "document.activeElement.textContent";
    page.presses("Tab").await?;
    assert_eq!(page.value(focused).await?, "Skip to content");
    page.presses("Enter").await?;
    assert_eq!(page.value("document.activeElement.id").await?, "main");
    page.presses("/").await?;
    let place = "document.activeElement.getAttribute('aria-label')";
    assert_eq!(page.value(place).await?, "Filter services");
    page.types("nothing of that name").await?;
    page.until("document.querySelector('table[aria-label=\"Services\"]').offsetParent === null")
        .await?;
    page.value("document.activeElement.select()").await?;
    page.types("ord").await?;
    page.until("document.querySelector('table[aria-label=\"Services\"]').offsetParent !== null")
        .await?;
    for _ in 0..20 {
        page.presses("Tab").await?;
        if page.value(focused).await? == "orders" {
            break;
        }
    }
    let ring = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(page.value(ring).await?, "solid", "the focus is not seen");
    page.presses("Enter").await?;
    page.until("document.querySelector('h1').textContent === 'orders'")
        .await?;
    agrees(&page, &site.companion).await?;

    // With requests in flight, too.
    let owner = site.companion.owner_of("ada").await?;
    let slow = site.instances.iter();
    let slow = slow.filter(|instance| instance.address() == owner);
    for instance in slow {
        instance.take(Duration::from_secs(600)).await?;
    }
    let url = format!("http://127.0.0.1:{}/", site.envoy.port);
    let client = reqwest::Client::new();
    let waiting: Vec<_> = (0..3)
        .map(|_| tokio::spawn(client.get(&url).header("x-user-id", "ada").send()))
        .collect();
    until("three requests in flight", async || {
        let said = expected(&site.companion).await?;
        ensure!(said.iter().any(|row| row[1].starts_with("3 /")), "{said:?}");
        Ok(())
    })
    .await?;
    agrees(&page, &site.companion).await?;
    waiting.iter().for_each(tokio::task::JoinHandle::abort);

    // A key's way.
    let asked = format!("/v1/services/orders/locate?key=ada&without={owner}");
    let said = site.companion.get(&asked).await?;
    page.value(&format!(
        "document.getElementById('way-key').value = 'ada'; document.getElementById('way-without').value = '{owner}';
         document.querySelector('.way-form button').click()"
    ))
    .await?;
    page.until("document.querySelector('.result .change') !== null")
        .await?;
    let told = page
        .value("document.querySelector('.result').innerText")
        .await?;
    let told = told.as_str().context("no text")?;
    let then = said["change"]["owner"].as_str().context("no owner")?;
    for part in [owner.as_str(), then, &percent(&said["change"]["moved"])] {
        ensure!(told.contains(part), "{part} is not in {told}");
    }

    // The instance is killed: its row is marked once the API reports it.
    let port = site.instance("b").port;
    let address = format!("127.0.0.1:{port}");
    site.instance("b").kill()?;
    until("Envoy to notice", async || {
        let said = site.companion.get("/v1/services/orders").await?;
        let instances = said["instances"].as_array().context("none")?;
        let one = instances.iter().find(|one| one["id"] == address.as_str());
        ensure!(one.is_some_and(|one| one["healthy"] == false), "{said}");
        Ok(())
    })
    .await?;
    let marked = format!(
        "document.querySelector('tr[data-state=\"unhealthy\"]')?.innerText.includes('{address}') === true
         && document.querySelector('tr[data-state=\"unhealthy\"] .mark.unhealthy').innerText.includes('unhealthy')"
    );
    page.until(&marked).await?;
    let first = rows(&page, "Instances").await?;
    ensure!(
        first[0][0].contains(&address),
        "not the worst first: {first:?}"
    );
    page.until(
        "document.querySelector('table[aria-label=\"Events\"]').innerText.includes('ejected')",
    )
    .await?;

    let views = [
        ("services", "Services"),
        ("service/orders", "orders"),
        ("events", "Events"),
        ("units", "Units"),
        ("group", "Group"),
    ];
    serves_everybody(&page, &views).await?;
    // Faults of this companion only; it has no group of servers.
    let faults = page.faults(&origin(&site.companion), &[404]);
    ensure!(faults.is_empty(), "{faults:#?}");
    goes(&page, "units", "Units").await?;
    page.until("document.querySelector('main').innerText.includes('This unit is alone')")
        .await?;
    goes(&page, "group", "Group").await?;
    page.until(
        "document.querySelector('main').innerText.includes('No group of servers is configured')",
    )
    .await
}
