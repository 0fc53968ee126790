//! `unitring top`: on a terminal its keys, its values and that it leaves the terminal as it was; in a pipe its text.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::envoy::keys;
use unitring_tests::ports;
use unitring_tests::programs;
use unitring_tests::rabbit::Rabbit;
use unitring_tests::report;
use unitring_tests::site::{Site, UnitNode};
use unitring_tests::terminal::Terminal;

use super::{run, url};

const SIZE: (u16, u16) = (24, 120);

fn command(at: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = programs::unitring()?;
    command.args(["top", "--url", at, "--interval", "200ms"]);
    // As on most terminals, independent of the terminal that runs the tests.
    command.args(arguments).env_remove("NO_COLOR");
    Ok(command)
}

fn top(companion: &Companion, arguments: &[&str]) -> Result<Terminal> {
    Terminal::start("top", &command(&url(companion.port), arguments)?, SIZE)
}

/// The words of the line that begins with this one.
fn line(terminal: &Terminal, first: &str) -> Result<Vec<String>> {
    let mut lines = terminal.words().into_iter();
    let line = lines.find(|words| words.first().is_some_and(|word| word == first));
    line.with_context(|| format!("no line of {first}:\n{}", terminal.screen()))
}

/// The instances of `orders` from the API: address and calls.
async fn calls(companion: &Companion) -> Result<Vec<(String, u64)>> {
    let service = companion.get("/v1/services/orders").await?;
    let instances = service["instances"].as_array().context("no instances")?;
    let calls = instances.iter().map(|instance| {
        let id = instance["id"].as_str().unwrap_or_default().to_owned();
        (id, instance["calls"].as_u64().unwrap_or(0))
    });
    Ok(calls.collect())
}

#[tokio::test]
async fn the_values_are_those_of_the_api_and_keys_lead_through_the_views() -> Result<()> {
    let site = Site::start().await?;
    let keys = keys(20);
    site.envoy.owners(&keys).await?;
    let mut terminal = top(&site.companion, &[])?;
    terminal.shows("unit local, leader, ready").await?;
    until("the sum of the calls", async || {
        let told = calls(&site.companion).await?;
        let sum: u64 = told.iter().map(|(_, calls)| calls).sum();
        ensure!(sum >= 20, "{told:?}");
        let words = line(&terminal, "orders")?;
        // The screen may be half drawn.
        let sum = sum.to_string();
        ensure!(
            words.iter().skip(1).take(4).eq(["4", "0", "1", "0"]) && words.get(8) == Some(&sum),
            "{words:?}"
        );
        Ok(())
    })
    .await?;
    terminal.press("\r")?;
    terminal.shows("instances of orders: 1 of 4").await?;
    until("each instance with its calls, and some rate", async || {
        site.envoy.owners(&keys).await?;
        for (address, calls) in calls(&site.companion).await? {
            let words = line(&terminal, &address)?;
            let [state, told] = [1, 6].map(|place| words.get(place).cloned());
            ensure!(
                state.is_some_and(|it| it == "ok") && told == Some(calls.to_string()),
                "{words:?}"
            );
        }
        let first = line(&terminal, &calls(&site.companion).await?[0].0)?;
        let rate = first.get(3).context("no rate")?;
        ensure!(rate.parse::<f64>()? > 0.0, "{first:?}");
        Ok(())
    })
    .await?;
    terminal.press("s")?;
    terminal.shows("CAPACITY").await?;
    terminal.shows(" %").await?;
    let port = site.instances[1].port.to_string();
    terminal.press(&format!("/{port}\r"))?;
    terminal.shows(&format!("1 of 1, filter {port}")).await?;
    terminal.press("3")?;
    let reporters = site.companion.get("/v1/services/orders").await?;
    let reporter = reporters["reporters"][0]["reporter"]
        .as_str()
        .context("none")?
        .to_owned();
    terminal.shows(&reporter).await?;
    // A view that is opened while it is paused is asked for, once.
    terminal.press("p")?;
    terminal.shows("PAUSED").await?;
    terminal.press("4")?;
    terminal.shows("this unit has no peers").await?;
    terminal.press("p\t")?;
    terminal.shows("REASON").await?;
    site.companion.register(&site.instances[0]).await?;
    terminal.shows("added").await?;
    terminal.press("1p")?;
    terminal.shows("PAUSED").await?;
    terminal.press("?")?;
    terminal.shows("reverse the order").await?;
    terminal.press("x")?;
    terminal.shows_no_more("reverse the order").await?;
    terminal.resize(10, 60)?;
    terminal
        .shows("services: 1 of 1, PAUSED   ? help  q quit")
        .await?;
    until("the foot to be on the last line", async || {
        let screen = terminal.screen();
        let last = screen.lines().nth(9).unwrap_or_default().to_owned();
        ensure!(last.starts_with("services: 1 of 1"), "{screen}");
        Ok(())
    })
    .await?;
    terminal.press("q")?;
    let status = terminal.ends().await?;
    ensure!(status.code() == Some(0), "{status}");
    terminal.is_restored().await
}

#[tokio::test]
async fn an_instance_that_is_killed_shows_in_its_view_and_as_an_event() -> Result<()> {
    let mut site = Site::start().await?;
    let keys = keys(40);
    let address = site.instance("b").address();
    let mut terminal = top(&site.companion, &["--service", "orders", "--sort", "state"])?;
    terminal.shows("instances of orders: 1 of 4").await?;
    site.instance("b").kill()?;
    until("the dead instance to be the first", async || {
        site.envoy.owners(&keys).await?;
        let words = terminal.words();
        let at = words
            .iter()
            .position(|words| words.first().is_some_and(|it| it == "INSTANCE"));
        let first = words.get(at.context("no table")? + 1);
        let first = first.into_iter().flatten().take(2);
        ensure!(
            first.eq([address.as_str(), "unhealthy"]),
            "{}",
            terminal.screen()
        );
        Ok(())
    })
    .await?;
    terminal.press("5/ejected\r")?;
    terminal.shows(&address).await
}

#[tokio::test]
async fn a_companion_that_is_gone_is_said_with_the_last_values_and_found_again() -> Result<()> {
    let mut companion = Settings::default().start().await?;
    let body = json!({"address": "10.0.0.1:80"}).to_string();
    let path = "/v1/services/orders/instances/a";
    companion
        .call(reqwest::Method::PUT, path, body.into_bytes())
        .await?;
    let mut terminal = top(&companion, &[])?;
    terminal.shows("orders").await?;
    ensure!(
        !terminal.screen().contains("refused"),
        "{}",
        terminal.screen()
    );
    companion.kill()?;
    terminal.shows("connection refused").await?;
    terminal.shows("last answered ").await?;
    until("the last values", async || {
        let words = line(&terminal, "orders")?;
        ensure!(words.get(1).is_some_and(|it| it == "1"), "{words:?}");
        Ok(())
    })
    .await?;
    companion.restart().await?;
    until("the companion to be found again", async || {
        let screen = terminal.screen();
        ensure!(
            !screen.contains("refused") && screen.contains("ready"),
            "{screen}"
        );
        Ok(())
    })
    .await?;
    // Ctrl-C, which is a key here.
    terminal.press("\x03")?;
    let status = terminal.ends().await?;
    ensure!(status.code() == Some(0), "{status}");
    terminal.is_restored().await
}

#[tokio::test]
async fn a_signal_leaves_the_terminal_as_it_was_and_nobody_there_ends_with_2() -> Result<()> {
    let companion = Settings::default().start().await?;
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut terminal = top(&companion, &[])?;
        terminal.shows("unit local").await?;
        terminal.signal(signal)?;
        let status = terminal.ends().await?;
        ensure!(status.code() == Some(0), "{signal:?}: {status}");
        terminal.is_restored().await?;
    }
    let nobody = url(ports::free()?);
    let mut terminal = Terminal::start("top", &command(&nobody, &[])?, SIZE)?;
    terminal.shows("no answer yet").await?;
    terminal.shows("connection refused").await?;
    terminal.press("\x1b")?;
    let status = terminal.ends().await?;
    ensure!(status.code() == Some(2), "{status}");
    terminal.is_restored().await?;
    // The error is printed after the terminal is restored, so that it stays.
    terminal.shows("unitring: ").await
}

#[tokio::test]
async fn colours_are_left_out_where_nobody_wants_them() -> Result<()> {
    let companion = Settings::default().start().await?;
    let mut coloured = top(&companion, &[])?;
    coloured.shows("ready").await?;
    coloured.has_colours().await?;
    let mut plain = command(&url(companion.port), &[])?;
    plain.env("NO_COLOR", "1");
    let mut plain = Terminal::start("top", &plain, SIZE)?;
    plain.shows("ready").await?;
    ensure!(plain.colours().is_empty(), "{:?}", plain.colours());
    Ok(())
}

#[tokio::test]
async fn frames_go_into_a_pipe_with_the_values_of_the_api() -> Result<()> {
    let site = Site::start().await?;
    site.envoy.owners(&keys(20)).await?;
    let sum = until("the companion to know the calls", async || {
        let sum: u64 = calls(&site.companion)
            .await?
            .iter()
            .map(|(_, calls)| calls)
            .sum();
        ensure!(sum >= 20, "{sum}");
        Ok(sum)
    })
    .await?;
    let at = url(site.companion.port);
    let frames = |arguments: &[&str]| -> Result<(i32, String, String)> {
        let top = ["top", "--frames", "2", "--interval", "200ms", "--url", &at];
        run(&[&top, arguments].concat(), &[])
    };
    let (code, out, said) = frames(&[])?;
    ensure!(code == 0 && said.is_empty(), "{code}: {said}");
    let parts: Vec<&str> = out.split("\n\n").collect();
    ensure!(parts.len() == 2, "{out}");
    let row = |frame: &str| -> Vec<String> {
        let line = frame.lines().find(|line| line.starts_with("orders "));
        line.unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    let (first, second) = (row(parts[0]), row(parts[1]));
    ensure!(first[5] == "-" && second[5] == "0.0", "{out}");
    ensure!(second[8] == sum.to_string(), "{out}");

    let (_, out, _) = frames(&["--service", "orders", "--shares", "--sort", "instance"])?;
    let shares = site
        .companion
        .get("/v1/services/orders?shares=true")
        .await?;
    let told: Vec<&Value> = shares["instances"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    ensure!(told.len() == 4);
    for instance in told {
        let id = instance["id"].as_str().unwrap_or_default();
        let share = instance["share"].as_f64().context("no share")? * 100.0;
        let line = out
            .lines()
            .rfind(|line| line.starts_with(id))
            .context("no line")?;
        let [capacity, calls] = ["capacity", "calls"].map(|name| instance[name].to_string());
        let words: Vec<&str> = line.split_whitespace().collect();
        ensure!(
            words[3] == capacity && words[4] == format!("{share:.1}"),
            "{line}"
        );
        ensure!(words[9] == calls, "{line}");
    }
    // A reader of the beginning alone ends it.
    super::ends_with_its_reader(&format!("top --frames 3 --interval 100ms --url {at}"))
}

#[tokio::test]
async fn without_a_terminal_or_an_answer_or_with_a_wrong_column_it_says_so() -> Result<()> {
    let nobody = url(ports::free()?);
    let said = "unitring: standard output is no terminal: --frames N prints N frames as text";
    super::ends(&["top", "--url", &nobody], 64, said)?;
    let said = "unitring: --sort size: units have the columns unit, state, lag, lag-p99, outbox, skew, conflicts, \
                missing, differ, confirmed";
    super::ends(&["top", "--view", "units", "--sort", "size"], 64, said)?;
    let (code, out, said) = run(
        &[
            "top",
            "--frames",
            "2",
            "--interval",
            "100ms",
            "--url",
            &nobody,
        ],
        &[],
    )?;
    ensure!(code == 2, "{code}: {said}");
    ensure!(out.matches("connection refused").count() == 2, "{out}");
    let (code, _, said) = run(&["top", "--frames", "1", "--url", "127.0.0.1:1"], &[])?;
    ensure!(
        code == 64 && said.contains("must begin with http://"),
        "{code}: {said}"
    );
    let (code, _, said) = run(&["top", "--interval", "1ms"], &[])?;
    ensure!(code == 64 && said.contains("100ms"), "{code}: {said}");
    Ok(())
}

#[tokio::test]
async fn five_services_of_a_thousand_instances_and_hostile_names_are_shown_in_order() -> Result<()>
{
    let companion = Settings::default().start().await?;
    let names = ["注文", "a\u{202e}b", "carts", "orders", "zz"];
    let services = names.map(|name| {
        let instance = |number: u32| {
            let (id, address) = (
                format!("i{number:03}"),
                format!("10.0.{}.{}:80", number / 250, number % 250),
            );
            report::instance(&id, &address, number.into())
        };
        report::service(name, (0..1_000).map(instance).collect())
    });
    let mut sequence = 0;
    let mut reported = async || -> Result<()> {
        sequence += 1;
        let mut report = report::report("edge-1", sequence, services.to_vec());
        // So that it counts however long the commands take.
        report["interval_ms"] = json!(120_000);
        companion.report(&report).await?;
        Ok(())
    };
    reported().await?;
    let at = url(companion.port);
    let (code, out, said) = run(&["top", "--frames", "1", "--url", &at], &[])?;
    ensure!(code == 0, "{said}");
    ensure!(
        !out.contains('\u{202e}') && out.contains("a\\u{202e}b "),
        "{out}"
    );
    let mut terminal = top(&companion, &["--sort", "service"])?;
    terminal.shows("services: 1 of 5").await?;
    // Columns stand below each other behind wide characters.
    until("the whole table", async || {
        let screen = terminal.screen();
        let ends = |name: &str| -> Result<String> {
            let line = screen.lines().find(|line| line.starts_with(name));
            let line = line.with_context(|| format!("{name}:\n{screen}"))?;
            Ok(line
                .split_whitespace()
                .skip(1)
                .take(4)
                .collect::<Vec<_>>()
                .join(" "))
        };
        ensure!(
            ends("注文")? == ends("carts")? && ends("carts")? == "1000 0 1 499500",
            "{screen}"
        );
        Ok(())
    })
    .await?;
    terminal.press("jj\r")?;
    until("the last of a thousand instances", async || {
        reported().await?;
        terminal.press("\x1b[F")?;
        let screen = terminal.screen();
        ensure!(
            screen.contains("instances of orders: 1000 of 1000"),
            "{screen}"
        );
        Ok(())
    })
    .await?;
    terminal.press("/i99\r")?;
    terminal.shows("10 of 10, filter i99").await
}

#[tokio::test]
async fn two_units_see_each_other() -> Result<()> {
    let rabbit = Rabbit::start().await?;
    let east = UnitNode::start("east", &["west"], &rabbit).await?;
    let _west = UnitNode::start("west", &["east"], &rabbit).await?;
    let mut terminal = top(&east.companion, &["--view", "units"])?;
    terminal.shows("east (this one)").await?;
    terminal.shows("outbox 0 of at most ").await?;
    until("the link to be well", async || {
        let words = line(&terminal, "west")?;
        let state = words.get(1).context("no state")?;
        let skew = words.get(5).context("no skew")?;
        ensure!(state == "ok" && skew.parse::<i64>().is_ok(), "{words:?}");
        Ok(())
    })
    .await
}
