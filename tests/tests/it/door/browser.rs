//! A page of another site, opened in a real browser, tries to reach the companion on the same machine.

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;
use unitring_tests::companion::Settings;
use unitring_tests::deadline::{PATIENCE, until};
use unitring_tests::programs;

/// The page's attempts, one after the other; then it reports the end.
const PAGE: &str = r#"<!doctype html><title>a page</title>
<iframe name="hidden"></iframe>
<form id="form" method="post" enctype="text/plain" target="hidden" action="TARGET/v1/data/evil">
  <input name='{"key": "form", "value": "' value='"}'>
</form>
<p id="done">no</p>
<script>
const target = "TARGET";
const lines = '[{"key": "k", "value": "v"}]';
const report = JSON.stringify({version: 1, reporter: "evil~1", sequence: 1, interval_ms: 60000, services: [
  {service: "evil", ring: {version: "r", points: 17, shape: {fill: "maglev", table_size: 17}}, fallbacks: 0,
   instances: [{id: "a", address: "10.0.0.1:1", weight: 1, healthy: true, calls: 1, in_flight: 9, updates: 0}]}]});
const plain = {"content-type": "text/plain"};
const tries = [
  () => fetch(target + "/v1/data/evil", {method: "POST", mode: "no-cors", headers: plain, body: lines}),
  () => fetch(target + "/v1/reports", {method: "POST", mode: "no-cors", headers: plain, body: report}),
  () => fetch(target + "/v1/reports", {method: "POST", mode: "no-cors", body: new Blob([report])}),
  () => fetch(target + "/v1/compact", {method: "POST", mode: "no-cors"}),
  () => fetch(target + "/v1/data/evil/k", {method: "PUT", body: "v"}),
  () => fetch(target + "/v1/services/orders/instances/10.0.0.1:80", {method: "DELETE"}),
  () => fetch(target + "/v1/services", {mode: "no-cors"}),
  () => new Promise(done => {
    const image = new Image();
    image.onload = image.onerror = done;
    image.src = target + "/v1/services/orders/locate?key=a";
  }),
  async () => navigator.sendBeacon(target + "/v1/reports", report),
  async () => document.getElementById("form").submit(),
];
(async () => {
  let failed = 0;
  for (const attempt of tries) {
    try { await attempt(); } catch { failed += 1; }
  }
  await new Promise(done => setTimeout(done, 500));
  document.getElementById("done").textContent = "tried " + tries.length + ", failed " + failed;
})();
</script>"#;

/// A site that has only this page; returns its port.
async fn site(page: String) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let page = page.clone();
            tokio::spawn(async move {
                let mut head = vec![0; 8192];
                drop(stream.read(&mut head).await);
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
                    page.len()
                );
                drop(stream.write_all(answer.as_bytes()).await);
            });
        }
    });
    Ok(port)
}

/// The page as the browser has it once its scripts have run.
async fn opened(url: String) -> Result<String> {
    let folder = TempDir::with_prefix("unitring-browser-")?;
    let dumping = Command::new(programs::part("chromium")?)
        .args(["--headless", "--no-sandbox", "--disable-gpu"])
        .args([
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-sync",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
        ])
        .arg("--virtual-time-budget=10000")
        .arg("--host-resolver-rules=MAP attacker.example 127.0.0.1")
        .arg(format!("--user-data-dir={}", folder.path().display()))
        .args(["--dump-dom", &url])
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, dumping)
        .await
        .context("it never ends")??;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{}: {errors}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_changes_and_reads_nothing() -> Result<()> {
    let companion = Settings::default().start().await?;
    let path = "/v1/services/orders/instances/10.0.0.1:80";
    let status = companion
        .call(reqwest::Method::PUT, path, vec![])
        .await?
        .status();
    ensure!(status == 201, "{status}");
    let mut refused = 0.0;
    // Another site by its name and by its port alone, and one whose name leads to this machine.
    for (ours, theirs) in [
        ("127.0.0.1", "localhost"),
        ("localhost", "localhost"),
        ("attacker.example", "attacker.example"),
    ] {
        let target = format!("http://{ours}:{}", companion.port);
        let port = site(PAGE.replace("TARGET", &target)).await?;
        let page = opened(format!("http://{theirs}:{port}/")).await?;
        ensure!(page.contains("tried 10, failed 2"), "{page}");
        // All but the reading of an image from the same site, which a page does not see; the last ones may still be on
        // their way.
        refused = until("its requests to be refused", async || {
            let foreign = companion
                .metric("unitring_companion_requests_foreign_total")
                .await?;
            ensure!(foreign - refused >= 8.0, "{foreign} of {refused}");
            println!("{theirs} to {ours}: {} requests refused", foreign - refused);
            Ok(foreign)
        })
        .await?;
    }
    let records = companion.get("/v1/data/evil").await?;
    ensure!(
        records["records"].as_array().is_some_and(Vec::is_empty),
        "{records}"
    );
    let services = companion.get("/v1/services").await?.to_string();
    ensure!(
        services.contains("10.0.0.1:80") && !services.contains("evil"),
        "{services}"
    );

    // A reader who follows a link sees what the companion says, but not by a name of another site.
    let url = format!("http://localhost:{}/v1/services", companion.port);
    let page = opened(url).await?;
    ensure!(page.contains("10.0.0.1:80"), "{page}");
    let url = format!("http://attacker.example:{}/v1/services", companion.port);
    let page = opened(url).await?;
    ensure!(page.contains("is no name of this companion"), "{page}");
    Ok(())
}
