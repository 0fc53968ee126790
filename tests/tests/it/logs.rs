//! The log: every line is JSON where that is asked for, lines of a request share its id, and what filters report is in
//! it once.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, keys};
use unitring_tests::instance::Instance;
use unitring_tests::{ports, programs, report};

/// A companion that logs JSON.
async fn start() -> Result<Companion> {
    let settings = Settings::default().variable("UNITRING_LOG_FORMAT", "json");
    settings.start().await
}

/// Each line of this text, which must be an object with what every line has.
fn parsed(log: &str) -> Result<Vec<Value>> {
    let line = |line: &str| -> Result<Value> {
        let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        for name in ["time", "level", "target", "message"] {
            ensure!(line[name].is_string(), "no {name}: {line}");
        }
        let time = line["time"].as_str().unwrap_or_default();
        ensure!(
            time.len() == 24 && time.ends_with('Z') && time[19..20] == *".",
            "{time}"
        );
        Ok(line)
    };
    log.lines().map(line).collect()
}

/// Waits for a line with this message and these fields.
async fn logs(companion: &Companion, message: &str, fields: &[(&str, &str)]) -> Result<Value> {
    until(&format!("{message}: {fields:?}"), async || {
        let lines = parsed(&companion.log())?;
        let has = |line: &&Value| {
            line["message"] == message && fields.iter().all(|(name, value)| line[name] == *value)
        };
        let found = lines.iter().find(has).cloned();
        found.with_context(|| companion.log())
    })
    .await
}

fn told(companion: &Companion, message: &str) -> Result<usize> {
    let lines = parsed(&companion.log())?;
    Ok(lines
        .iter()
        .filter(|line| line["message"] == message)
        .count())
}

/// Envoy with this change of the shipped configuration.
async fn envoy(
    companion: &Companion,
    instances: &[Instance],
    change: impl FnOnce(EnvoyConfig) -> Result<EnvoyConfig>,
) -> Result<Envoy> {
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(instances, &[])?
        .companion(companion)?;
    Envoy::start(&change(config)?).await
}

#[tokio::test]
async fn every_line_is_json_from_the_start_to_the_end() -> Result<()> {
    let mut companion = start().await?;
    let mut instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    companion.register(&instances[0]).await?;
    let mut good = envoy(&companion, &instances, Ok).await?;
    good.steers_to(4).await?;
    let keys = keys(40);
    good.owners(&keys).await?;
    let address = instances[1].address();
    instances[1].kill()?;
    until("the dead instance to be in the log", async || {
        good.owners(&keys).await?;
        let lines = parsed(&companion.log())?;
        // On a busy machine another one may miss its health checks, too.
        let ejected = lines
            .iter()
            .find(|line| line["message"] == "instance ejected" && line["instance"] == *address);
        let line = ejected.context("not yet")?;
        ensure!(line["level"] == "WARN", "{line}");
        ensure!(
            line["service"] == "orders" && line["reporter"].is_string(),
            "{line}"
        );
        ensure!(
            line["reason"].is_string() && line["request_id"].is_string(),
            "{line}"
        );
        Ok(())
    })
    .await?;
    good.stop().await?;

    // The cluster that the filter steers is not the one that the route leads to.
    let bad = envoy(&companion, &instances, |config| {
        config.unchecked()?.setting("service", json!("order"))
    })
    .await?;
    let line = logs(&companion, "wired wrongly", &[("kind", "service")]).await?;
    ensure!(
        line["level"] == "WARN" && line["mend"].is_string(),
        "{line}"
    );
    // It goes on, and is not told again.
    let reported = companion.metric("unitring_reports_total").await?;
    until("five more reports", async || {
        let reports = companion.metric("unitring_reports_total").await?;
        ensure!(reports >= reported + 5.0, "{reports}");
        Ok(())
    })
    .await?;
    let of_kind = |line: &&Value| line["message"] == "wired wrongly" && line["kind"] == "service";
    let lines = parsed(&companion.log())?;
    ensure!(
        lines.iter().filter(of_kind).count() == 1,
        "{}",
        companion.log()
    );
    drop(bad);

    companion.stop().await?;
    let lines = parsed(&companion.log())?;
    ensure!(
        lines.iter().any(|line| line["message"] == "stopped"),
        "{lines:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_request_has_an_id_in_its_answer_and_in_its_lines() -> Result<()> {
    let companion = start().await?;
    let client = reqwest::Client::new();
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", companion.port);
    let registered = "/v1/services/orders/instances/";
    let put = |id: &str| {
        let body = json!({"address": "10.0.0.1:80"}).to_string();
        client.put(url(&format!("{registered}{id}"))).body(body)
    };
    let answer = put("a").header("x-request-id", "4Qd-x7").send().await?;
    ensure!(answer.headers()["x-request-id"] == "4Qd-x7");
    let line = logs(&companion, "instance registered", &[("id", "a")]).await?;
    ensure!(line["request_id"] == "4Qd-x7", "{line}");

    let answer = put("b").send().await?;
    let made = answer.headers()["x-request-id"].to_str()?.to_owned();
    let line = logs(&companion, "instance registered", &[("id", "b")]).await?;
    ensure!(line["request_id"] == *made && made.len() >= 16, "{line}");

    // An invalid id is replaced, and refusals have an id, too.
    for (path, id) in [
        ("/healthz", "two words"),
        ("/nothing", &*"x".repeat(129)),
        ("/v1/events?after=x", "é"),
    ] {
        let id = reqwest::header::HeaderValue::from_bytes(id.as_bytes())?;
        let answer = client
            .get(url(path))
            .header("x-request-id", &id)
            .send()
            .await?;
        let given = answer.headers()["x-request-id"].clone();
        ensure!(given != id && !given.is_empty(), "{path}: {given:?}");
    }
    let foreign = client
        .get(url("/readyz"))
        .header("host", "attacker.example");
    let answer = foreign.header("x-request-id", "f1").send().await?;
    ensure!(answer.status() == 421 && answer.headers()["x-request-id"] == "f1");
    Ok(())
}

#[tokio::test]
async fn a_failed_request_is_told_with_its_id_and_so_many_of_them_a_second() -> Result<()> {
    let mut redis = unitring_tests::redis::Redis::start().await?;
    let settings = Settings::on_redis(&redis).variable("UNITRING_LOG_FORMAT", "json");
    let companion = settings.start().await?;
    companion.is_ready().await?;
    redis.kill()?;
    let client = reqwest::Client::new();
    let url = format!("http://127.0.0.1:{}/v1/data/d/k", companion.port);
    until("a request to fail", async || {
        let answer = client
            .put(&url)
            .header("x-request-id", "lost")
            .send()
            .await?;
        ensure!(answer.status() == 503, "{}", answer.status());
        Ok(())
    })
    .await?;
    let line = logs(&companion, "request failed", &[("request_id", "lost")]).await?;
    ensure!(line["level"] == "WARN" && line["status"] == 503, "{line}");
    ensure!(
        (&line["method"], &line["path"]) == (&json!("PUT"), &json!("/v1/data/d/k")),
        "{line}"
    );
    ensure!(
        line["error"]
            .as_str()
            .is_some_and(|error| !error.is_empty()),
        "{line}"
    );
    // One client has half of the ten lines of a second; the rest is logged as a count.
    until("lines to be left out", async || {
        for _ in 0..30 {
            client.put(&url).send().await?;
        }
        let message = "further failures of requests were left out of the log";
        ensure!(told(&companion, message)? > 0, "not yet");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_a_hostile_reporter_says_is_few_lines_and_forges_none() -> Result<()> {
    let companion = start().await?;
    let service = |sequence: u64, kinds: &[&str]| -> Value {
        let event = |number: u64| {
            json!({"number": sequence * 1_000 + number, "at_ms": 1, "kind": "ejected", "instance": "a",
                "reason": "x\n{\"time\":\"forged\"}\u{1b}[2J", "ring": "r", "moved": 0.5})
        };
        let events: Vec<Value> = (0..900).map(event).collect();
        let finding = |kind: &&str| json!({"kind": kind, "seen": "s\n", "mend": "m"});
        let findings: Vec<Value> = kinds.iter().map(finding).collect();
        let mut service = report::service("orders", vec![report::instance("a", "10.0.0.1:80", 0)]);
        service["events"] = json!(events);
        service["wiring"] = json!(findings);
        service
    };
    let mut sequence = 0;
    let mut send = async |kinds: &[&str]| -> Result<()> {
        sequence += 1;
        let services = vec![service(sequence, kinds)];
        companion
            .report(&report::report("edge-1", sequence, services))
            .await?;
        Ok(())
    };
    send(&["stats"]).await?;
    let line = logs(&companion, "instance ejected", &[("instance", "a")]).await?;
    let reason = line["reason"].as_str().unwrap_or_default();
    ensure!(reason == "x\\u{a}{\"time\":\"forged\"}\\u{1b}[2J", "{line}");
    let message = "reports of filters were left out of the log: GET /v1/events and GET /v1/services have them";
    until("the number of lines that were left out", async || {
        send(&[]).await?;
        let lines = parsed(&companion.log())?;
        let left_out = lines.iter().find(|line| line["message"] == message);
        let left_out = left_out.context("not yet")?["lines"].as_u64();
        ensure!(left_out.is_some_and(|lines| lines >= 800), "{left_out:?}");
        Ok(())
    })
    .await?;
    let mut by_second = std::collections::BTreeMap::<String, usize>::new();
    for line in parsed(&companion.log())? {
        let second = line["time"].as_str().unwrap_or_default()[..19].to_owned();
        if line["message"] == "instance ejected" {
            *by_second.entry(second).or_default() += 1;
        }
    }
    // Lines of one second of the pace may be written in the next.
    ensure!(
        by_second.values().all(|lines| *lines <= 50),
        "{by_second:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_mistake_of_the_wiring_is_told_when_it_comes_and_when_it_is_gone() -> Result<()> {
    let companion = start().await?;
    let finding = json!({"kind": "stats", "seen": "no gauge", "mend": "allow it"});
    for (sequence, findings) in [vec![&finding], vec![&finding, &finding], vec![], vec![]]
        .into_iter()
        .enumerate()
    {
        let mut service = report::service("orders", Vec::new());
        service["wiring"] = json!(findings);
        let sequence = u64::try_from(sequence)? + 1;
        companion
            .report(&report::report("edge-1", sequence, vec![service]))
            .await?;
    }
    let fields = [
        ("kind", "stats"),
        ("reporter", "edge-1"),
        ("service", "orders"),
    ];
    let line = logs(&companion, "wired wrongly", &fields).await?;
    ensure!(
        (&line["seen"], &line["mend"]) == (&json!("no gauge"), &json!("allow it")),
        "{line}"
    );
    let line = logs(&companion, "no longer wired wrongly", &fields).await?;
    ensure!(line["level"] == "INFO", "{line}");
    ensure!(
        told(&companion, "wired wrongly")? == 1,
        "{}",
        companion.log()
    );
    ensure!(told(&companion, "no longer wired wrongly")? == 1);
    Ok(())
}

/// The output of `unitring serve` before it ends.
fn fails(file: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Result<(i32, String)> {
    let folder = TempDir::new()?;
    let path = folder.path().join("u.toml");
    std::fs::write(&path, file)?;
    let mut command: Command = programs::unitring()?;
    command
        .current_dir(folder.path())
        .arg("serve")
        .arg("--config")
        .arg(path);
    let output = command
        .args(arguments)
        .envs(variables.iter().copied())
        .output()?;
    let code = output.status.code().context("it was killed")?;
    Ok((code, String::from_utf8(output.stderr)?))
}

#[tokio::test]
async fn also_what_ends_the_program_early_is_json() -> Result<()> {
    let file = "log.format = \"json\"\nlog.filter = \"warn\"\n";
    let (code, said) = fails(
        file,
        &[("UNITRING_STOER_PATH", "x")],
        &["--listen", "nowhere"],
    )?;
    let lines = parsed(&said)?;
    ensure!(code == 64 && lines.len() == 2, "{code}: {said}");
    let has = |line: &Value, level: &str, words: &str| {
        line["level"] == level
            && line["message"]
                .as_str()
                .is_some_and(|it| it.contains(words))
    };
    ensure!(
        has(&lines[0], "WARN", "did you mean UNITRING_STORE_PATH?"),
        "{said}"
    );
    ensure!(
        has(&lines[1], "ERROR", "bad configuration: listen: "),
        "{said}"
    );

    let port = ports::free()?;
    let taken = std::net::TcpListener::bind(("127.0.0.1", port))?;
    let at = format!("127.0.0.1:{port}");
    let (code, said) = fails(file, &[], &["--listen", &at, "--xds-listen", "127.0.0.1:0"])?;
    let lines = parsed(&said)?;
    let last = lines.last().context("no line")?;
    ensure!(code == 1 && has(last, "ERROR", &at), "{code}: {said}");
    drop(taken);

    let (code, said) = fails("", &[("UNITRING_LOG_FORMAT", "jsno")], &[])?;
    let rule = "unitring: bad configuration: log.format: \"jsno\": must be one of text, json; did you mean json?";
    ensure!(code == 64 && said.trim_end() == rule, "{code}: {said}");
    Ok(())
}

#[tokio::test]
async fn the_filter_is_read_again_and_the_form_stays() -> Result<()> {
    let folder = TempDir::new()?;
    let path = folder.path().join("u.toml");
    std::fs::write(&path, "log.format = \"json\"\nlog.filter = \"error\"\n")?;
    // The file of the environment goes under the flag of the harness, so the program is started by hand.
    let mut command = programs::unitring()?;
    let (port, xds) = (ports::free()?, ports::free()?);
    command
        .current_dir(folder.path())
        .args(["serve", "--config"])
        .arg(&path)
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .args(["--xds-listen", &format!("127.0.0.1:{xds}")]);
    let mut process =
        unitring_tests::process::Process::start("serve", &mut command, folder.path())?;
    process
        .answers(&format!("http://127.0.0.1:{port}/healthz"))
        .await?;
    ensure!(process.log().is_empty(), "{}", process.log());
    std::fs::write(&path, "log.format = \"text\"\nlog.filter = \"info\"\n")?;
    process.signal(rustix::process::Signal::HUP)?;
    let client = reqwest::Client::new();
    let mut number = 0;
    until("a line of the new filter", async || {
        number += 1;
        let url = format!("http://127.0.0.1:{port}/v1/services/s/instances/i{number}");
        let body = json!({"address": "10.0.0.1:80"}).to_string();
        client.request(Method::PUT, url).body(body).send().await?;
        let lines = parsed(&process.log())?;
        match lines
            .iter()
            .any(|line| line["message"] == "instance registered")
        {
            true => Ok(()),
            false => bail!("{}", process.log()),
        }
    })
    .await
}
