//! The path of docs/operate.md on two real faults: from the alert to its runbook, to the output of the commands and
//! the console, to the mend, until the alert clears.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use unitring_tests::browser::{Look, Page};
use unitring_tests::companion::Companion;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::programs;
use unitring_tests::shell::Shell;

use super::Fleet;

/// The section of the page that the annotation `runbook` of a firing alert leads to.
async fn runbook(fleet: &Fleet, alert: &str) -> Result<String> {
    let named = fleet.prometheus.annotation(alert, "runbook").await?;
    let (file, anchor) = named.split_once('#').context("no section is named")?;
    let page = fs::read_to_string(programs::root()?.join(file))?;
    let sections = page.split("\n### ").skip(1);
    let mut sections = sections.filter_map(|section| section.split_once('\n'));
    let found = sections.find(|(title, _)| title.to_lowercase() == anchor);
    let (_, text) = found.with_context(|| format!("{named} leads nowhere"))?;
    Ok(text.to_owned())
}

/// Runs a command of the program with these arguments; returns its exit code and its output.
fn run(arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Command::new(programs::built("unitring")?)
        .args(arguments)
        .output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8(said)?))
}

fn url(companion: &Companion) -> String {
    format!("http://127.0.0.1:{}", companion.port)
}

fn admin_of(envoy: &Envoy) -> String {
    format!("http://127.0.0.1:{}", envoy.admin_port)
}

#[tokio::test]
async fn the_way_from_an_alert_to_the_mend_is_as_the_page_shows() -> Result<()> {
    let mut fleet = Fleet::start().await?;
    fleet.prometheus.is_quiet().await?;
    fleet.is_used().await?;
    let (url, admin) = (url(&fleet.east), admin_of(&fleet.envoy));
    let status = || run(&["status", "--url", &url]);
    let events = || {
        run(&[
            "events",
            "--since",
            "1h",
            "--service",
            "orders",
            "--url",
            &url,
        ])
    };
    until("a healthy status", async || {
        let (code, said) = status()?;
        ensure!(code == Some(0), "{code:?}: {said}");
        Ok(())
    })
    .await?;
    let page = Page::start(Look::DESK).await?;
    // A view waits a hundred times as long as the companion took for its answer: on a busy machine that is minutes. So
    // the test reloads the page, as an operator would.
    let opens = async || {
        page.goes_to(&format!("{url}/ui#/services")).await?;
        page.goes_to(&format!("{url}/ui#/service/orders")).await
    };
    opens().await?;

    // An instance dies.
    let address = fleet.instances[1].address();
    fleet.instances[1].kill()?;
    let alert = "UnitringInstanceUnhealthy";
    fleet.prometheus.fires(&[alert]).await?;
    let says = runbook(&fleet, alert).await?;
    ensure!(says.contains("`unitring events --service S`"), "{says}");
    ensure!(says.contains("restart it"), "{says}");
    until("the status to begin with it", async || {
        let (code, said) = status()?;
        let first = said.lines().next().unwrap_or_default();
        ensure!(
            code == Some(1) && first.contains(&address),
            "{code:?}: {said}"
        );
        Ok(())
    })
    .await?;
    let (_, said) = events()?;
    let mut ejected = said.lines().filter(|line| line.contains("ejected"));
    ensure!(ejected.any(|line| line.contains(&address)), "{said}");
    let red = format!(
        "document.querySelector('tr[data-state=\"unhealthy\"]')?.innerText.includes('{address}') === true"
    );
    opens().await?;
    page.until(&red).await?;
    // Nothing is wired wrongly, so that is not it.
    let doctor = ["doctor", "--admin", &admin, "--url", &url];
    let (code, said) = run(&doctor)?;
    ensure!(!said.contains("steer_header"), "{code:?}: {said}");
    // The mend that the runbook names.
    fleet.instances[1].restart().await?;
    until("the event of the recovery", async || {
        let (_, said) = events()?;
        let back = said
            .lines()
            .any(|line| line.contains("recovered") && line.contains(&address));
        ensure!(back, "{said}");
        Ok(())
    })
    .await?;
    fleet.prometheus.is_quiet().await?;
    until("a healthy status again", async || {
        let (code, said) = status()?;
        ensure!(code == Some(0), "{code:?}: {said}");
        Ok(())
    })
    .await?;

    opens().await?;
    let whole = "document.querySelector('tr[data-state]') !== null";
    page.until(&format!(
        "{whole} && document.querySelector('tr[data-state=\"unhealthy\"]') === null"
    ))
    .await?;

    // An Envoy comes whose filter writes a header that no policy reads.
    let right = Shell::Filter.config()?.instances(&fleet.instances, &[])?;
    let right = right.companion(&fleet.east)?;
    let wrong = right
        .clone()
        .setting("steer.header", "x-unitring-other".into())?;
    let miswired = Envoy::start(&wrong).await?;
    let alert = "UnitringFilterMiswired";
    fleet.prometheus.fires(&[alert]).await?;
    let says = runbook(&fleet, alert).await?;
    ensure!(says.contains("unitring doctor"), "{says}");
    let (code, said) = status()?;
    ensure!(
        code == Some(1) && said.contains("steer_header"),
        "{code:?}: {said}"
    );
    opens().await?;
    page.until("document.body.innerText.includes('steer_header')")
        .await?;
    let doctor = ["doctor", "--admin", &admin_of(&miswired), "--url", &url];
    let (code, said) = run(&doctor)?;
    ensure!(code == Some(1), "{code:?}: {said}");
    ensure!(said.contains("x-unitring-other"), "{said}");
    // The mend that it shows: filter and policy name the same header.
    drop(miswired);
    let mended = Envoy::start(&right).await?;
    let doctor = ["doctor", "--admin", &admin_of(&mended), "--url", &url];
    until("the doctor to find nothing of it", async || {
        let (_, said) = run(&doctor)?;
        ensure!(!said.contains("x-unitring-other"), "{said}");
        Ok(())
    })
    .await?;
    fleet.prometheus.is_quiet().await?;
    opens().await?;
    page.until(&format!(
        "{whole} && !document.body.innerText.includes('steer_header')"
    ))
    .await
}
