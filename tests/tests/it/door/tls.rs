//! Encrypted connections, with clients' certificates, for people and for Envoy.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::certificates::Certificates;
use unitring_tests::companion::{Companion, Settings};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;
use unitring_tests::programs;

/// The holder of the client's certificate may report; the holder of the server's may do everything.
const TOKENS: &str = "[envoys]\ncertificate = 'client.example'\nroles = ['report']\n\
    [operators]\ncertificate = 'server.example'\nroles = ['admin']\n";

async fn companion(certificates: &Certificates, wants_certificates: bool) -> Result<Companion> {
    let settings = Settings::default()
        .variable("UNITRING_TLS_CERT", &certificates.path("server.pem"))
        .variable("UNITRING_TLS_KEY", &certificates.path("server.key"));
    let settings = match wants_certificates {
        true => settings
            .variable("UNITRING_TLS_CLIENT_CA", &certificates.path("ca.pem"))
            .variable("UNITRING_TOKENS", TOKENS),
        false => settings.variable("UNITRING_TOKEN", "s3cret"),
    };
    settings.start().await
}

/// Runs a command against the companion; returns whether it succeeded, and its output.
fn ask(companion: &Companion, ca: &str, more: &[&str]) -> Result<(bool, String)> {
    let url = format!("https://localhost:{}", companion.port);
    let command = ["service", "list", "--url", &url, "--ca", ca];
    let mut program = programs::unitring()?;
    let output = program.args([&command[..], more].concat()).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8(text)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_encrypted_and_certificates_are_read_again() -> Result<()> {
    let (certificates, other) = (Certificates::make()?, Certificates::make()?);
    let companion = companion(&certificates, false).await?;
    let token = ["--token", "s3cret"];
    let (ok, said) = ask(&companion, &certificates.path("ca.pem"), &token)?;
    ensure!(ok && said.contains("no service is known"), "{said}");
    let (ok, said) = ask(&companion, &certificates.path("ca.pem"), &[])?;
    ensure!(!ok && said.contains("a bearer token is needed"), "{said}");
    let (ok, said) = ask(&companion, &other.path("ca.pem"), &token)?;
    ensure!(!ok && said.contains("certificate"), "{said}");
    let plain = companion.get("/healthz").await;
    ensure!(plain.is_err(), "it speaks without encryption");

    let root = fs::read(certificates.file("ca.pem"))?;
    certificates.replace_by(&other)?;
    companion.reload()?;
    until("the new certificate", async || {
        let (ok, said) = ask(&companion, &certificates.path("ca.pem"), &token)?;
        ensure!(ok, "{said}");
        Ok(())
    })
    .await?;
    // A broken file changes nothing.
    fs::write(certificates.file("server.pem"), root)?;
    companion.reload()?;
    until("the error in the log", async || {
        ensure!(
            companion.log().contains("tls_cert: "),
            "{}",
            companion.log()
        );
        Ok(())
    })
    .await?;
    let (ok, said) = ask(&companion, &certificates.path("ca.pem"), &token)?;
    ensure!(ok, "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_reports_and_reads_endpoints_by_its_certificate() -> Result<()> {
    let certificates = Certificates::make()?;
    let companion = companion(&certificates, true).await?;
    let ca = certificates.path("ca.pem");
    let (ok, said) = ask(&companion, &ca, &[])?;
    ensure!(!ok, "without a certificate: {said}");
    let of = |name: &str| {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        [
            "--cert",
            &certificates.path(&cert),
            "--key-file",
            &certificates.path(&key),
        ]
        .map(str::to_owned)
    };
    let (client, operator) = (of("client"), of("server"));
    let (client, operator) = (client.each_ref(), operator.each_ref());
    let (ok, said) = ask(&companion, &ca, &client.map(String::as_str))?;
    ensure!(!ok && said.contains("envoys lacks the role read"), "{said}");

    let instance = Instance::start("a").await?;
    let url = format!("https://localhost:{}", companion.port);
    let output = programs::unitring()?
        .args(["instance", "add", "--service", "orders", "--id", "a"])
        .args(["--address", &instance.address(), "--url", &url, "--ca", &ca])
        .args(operator)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let config = EnvoyConfig::shipped("tls.yaml")?
        .companion(&companion)?
        .edit(|json| certify(json, &certificates))?;
    let envoy = Envoy::start(&config).await?;
    envoy.steers_to(1).await?;
    let answer = envoy.get("ada").await?;
    ensure!(answer.status == 200 && answer.instance == "a", "{answer:?}");
    until("its report", async || {
        let (ok, said) = ask(&companion, &ca, &operator.map(String::as_str))?;
        ensure!(
            ok && said.contains("1 registered instance, 1 reporting Envoy"),
            "{said}"
        );
        Ok(())
    })
    .await
}

/// Names these certificates where the shipped file names certificates that its reader makes.
fn certify(json: &mut Value, certificates: &Certificates) -> Result<()> {
    match json {
        Value::Object(fields) => fields
            .values_mut()
            .try_for_each(|value| certify(value, certificates)),
        Value::Array(items) => items
            .iter_mut()
            .try_for_each(|value| certify(value, certificates)),
        Value::String(text) => {
            if let Some(name) = text.strip_prefix("certs/") {
                let name = name.replace("envoy.", "client.");
                let file = certificates.file(&name);
                *json = json!(file.to_str().context("no text")?);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
