//! Roles: what each credential may do, and how that changes while the companion runs.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use unitring_tests::certificates::Certificates;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::deadline::until;
use unitring_tests::process::Process;
use unitring_tests::{ports, programs};

const TOKENS: &str = r#"
[edge]
token = "edge-token"
roles = ["report"]

[deploy]
token = "deploy-token"
roles = ["register"]
services = ["orders", "shop-*"]

[carts]
token = "carts-token"
roles = ["read", "write"]
datasets = ["carts"]

[viewer]
token = "viewer-token"
roles = ["read"]
"#;

async fn status(companion: &Companion, token: &str, method: Method, path: &str) -> Result<u16> {
    let body = match path {
        "/v1/reports" => json!({
            "version": 1, "reporter": "e~1", "sequence": 1, "interval_ms": 1000, "services": [],
        })
        .to_string(),
        "/v1/updates" => json!({
            "version": 1, "source": "e~1", "vm": 1, "service": "orders", "updates": [],
        })
        .to_string(),
        path if path.contains("instances/") && method == Method::PUT => {
            r#"{"ttl": "30s"}"#.to_owned()
        }
        _ => String::new(),
    };
    let body = body.into_bytes();
    let response = match token {
        "" => companion.call(method, path, body).await?,
        token => companion.call_as(token, method, path, body).await?,
    };
    Ok(response.status().as_u16())
}

#[tokio::test]
async fn each_token_does_what_its_roles_say_over_http_and_grpc() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("tokens.toml");
    fs::write(&file, TOKENS)?;
    let companion = Settings::default()
        .variable("UNITRING_TOKEN", "root")
        .variable("UNITRING_TOKENS_FILE", &file.display().to_string())
        .start()
        .await?;
    let (get, put, post, delete) = (Method::GET, Method::PUT, Method::POST, Method::DELETE);
    for (token, method, path, expected) in [
        ("edge-token", &post, "/v1/reports", 200),
        ("deploy-token", &post, "/v1/reports", 403),
        ("edge-token", &post, "/v1/updates", 200),
        ("carts-token", &post, "/v1/updates", 403),
        ("deploy-token", &post, "/v1/updates", 403),
        ("", &post, "/v1/updates", 401),
        ("", &post, "/v1/reports", 401),
        ("wrong", &post, "/v1/reports", 401),
        (
            "deploy-token",
            &put,
            "/v1/services/orders/instances/10.0.0.1:1",
            201,
        ),
        (
            "deploy-token",
            &put,
            "/v1/services/shop-9/instances/10.0.0.1:1",
            201,
        ),
        (
            "deploy-token",
            &put,
            "/v1/services/users/instances/10.0.0.1:1",
            403,
        ),
        (
            "deploy-token",
            &put,
            "/v1/services/user%73/instances/10.0.0.1:1",
            403,
        ),
        (
            "edge-token",
            &put,
            "/v1/services/orders/instances/10.0.0.1:1",
            403,
        ),
        ("edge-token", &get, "/v1/services/orders/instances", 200),
        ("edge-token", &get, "/v1/services", 403),
        ("carts-token", &put, "/v1/data/carts/1", 201),
        ("carts-token", &get, "/v1/data/carts/1", 200),
        ("carts-token", &get, "/v1/data/carts", 200),
        ("carts-token", &put, "/v1/data/users/1", 403),
        ("carts-token", &get, "/v1/data/users", 403),
        ("carts-token", &get, "/v1/conflicts", 403),
        ("carts-token", &get, "/v1/units", 403),
        ("viewer-token", &get, "/v1/data/carts/1", 200),
        ("viewer-token", &put, "/v1/data/carts/1", 403),
        ("viewer-token", &get, "/v1/services", 200),
        ("viewer-token", &get, "/metrics", 200),
        ("viewer-token", &delete, "/v1/services/orders", 403),
        ("root", &put, "/v1/data/users/1", 201),
        ("root", &post, "/v1/compact", 200),
        ("viewer-token", &post, "/v1/compact", 403),
        ("", &get, "/v1/services", 401),
        ("", &get, "/v1/nowhere", 401),
        ("", &get, "/metrics", 401),
        ("", &get, "/healthz", 200),
        ("", &get, "/readyz", 200),
    ] {
        let got = status(&companion, token, method.clone(), path).await?;
        ensure!(got == expected, "{method} {path} with {token:?}: {got}");
    }
    let names = ["orders".to_owned()];
    for (token, may) in [
        (None, false),
        (Some("deploy-token"), false),
        (Some("edge-token"), true),
    ] {
        let got = super::keeps::subscribed(&companion, &names, token).await;
        ensure!(got.is_ok() == may, "{token:?}");
    }
    Ok(())
}

#[tokio::test]
async fn tokens_and_the_log_are_read_again_and_an_error_changes_nothing() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("tokens.toml");
    let write = |token: &str, roles: &str| {
        fs::write(
            &file,
            format!("[one]\ntoken = \"{token}\"\nroles = {roles}\n"),
        )
    };
    write("first", "[\"admin\"]")?;
    let companion = Settings::default()
        .variable("UNITRING_TOKENS_FILE", &file.display().to_string())
        .start()
        .await?;
    let may = async |token: &str| status(&companion, token, Method::GET, "/v1/services").await;
    ensure!(may("first").await? == 200 && may("second").await? == 401);
    write("second", "[\"admin\"]")?;
    companion.reload()?;
    until("the second token", async || {
        ensure!(may("second").await? == 200 && may("first").await? == 401);
        Ok(())
    })
    .await?;
    write("third", "[\"amdin\"]")?;
    companion.reload()?;
    until("the error in the log", async || {
        let log = companion.log();
        ensure!(
            log.contains("the last settings stay in force") && log.contains("\"amdin\""),
            "{log}"
        );
        ensure!(!log.contains("third"), "{log}");
        Ok(())
    })
    .await?;
    ensure!(may("second").await? == 200 && may("third").await? == 401);
    // A file that lost its tokens opens nothing.
    fs::write(&file, "# empty\n")?;
    companion.reload()?;
    until("the error in the log", async || {
        ensure!(
            companion.log().contains("must have at least one token"),
            "{}",
            companion.log()
        );
        Ok(())
    })
    .await?;
    ensure!(may("").await? == 401 && may("second").await? == 200);
    let metrics = companion
        .call_as("second", Method::GET, "/metrics", vec![])
        .await?;
    ensure!(
        metrics
            .text()
            .await?
            .contains("unitring_companion_reloads_failed_total 2")
    );
    Ok(())
}

#[tokio::test]
async fn reads_are_open_only_where_the_settings_say_so() -> Result<()> {
    let companion = Settings::default()
        .variable("UNITRING_TOKEN", "root")
        .variable("UNITRING_OPEN_READS", "true")
        .start()
        .await?;
    for (token, path, expected) in [
        ("", "/v1/services", 200),
        ("", "/metrics", 200),
        ("wrong", "/v1/services", 401),
    ] {
        let got = status(&companion, token, Method::GET, path).await?;
        ensure!(got == expected, "{path} with {token:?}: {got}");
    }
    ensure!(status(&companion, "", Method::PUT, "/v1/data/a/b").await? == 401);
    let answer = companion.call(Method::PUT, "/v1/data/a/b", vec![]).await?;
    let error = answer.text().await?;
    ensure!(error.contains("a bearer token is needed"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_file_that_lost_its_lines_opens_nothing() -> Result<()> {
    let certificates = Certificates::make()?;
    let file = certificates.file("unitring.toml");
    let closed = format!(
        "token = \"root\"\ntls_cert = {:?}\ntls_key = {:?}\n",
        certificates.path("server.pem"),
        certificates.path("server.key"),
    );
    let is_refused = async |after: &str, why: &str| {
        fs::write(&file, &closed)?;
        let folder = TempDir::new()?;
        let port = ports::free()?;
        let mut command = Command::new(programs::built("unitring")?);
        command
            .arg("serve")
            .env("UNITRING_CONFIG", &file)
            .env("UNITRING_LISTEN", format!("127.0.0.1:{port}"))
            .env(
                "UNITRING_XDS_LISTEN",
                format!("127.0.0.1:{}", ports::free()?),
            )
            .current_dir(folder.path());
        let mut process = Process::start("closed", &mut command, folder.path())?;
        let log = folder.path().join("closed.log");
        let says = async |text: &str| {
            let said = fs::read_to_string(&log)?;
            ensure!(said.contains(text), "{said}");
            anyhow::Ok(())
        };
        process.ready(async || says("role changed").await).await?;
        fs::write(&file, after)?;
        process.signal(Signal::HUP)?;
        until("the refusal in the log", async || says(why).await).await?;
        let plain = reqwest::get(format!("http://127.0.0.1:{port}/v1/services")).await;
        ensure!(plain.is_err(), "it speaks without TLS");
        Ok(())
    };
    is_refused("", "no token is left").await?;
    is_refused("token = \"root\"\n", "tls_cert is gone").await
}
