//! The same over TLS.

use std::process::Command;

use anyhow::{Context, Result};
use unitring_tests::programs;
use unitring_tests::redis::tls::TlsRedis;

#[tokio::test]
async fn a_group_is_created_over_tls_with_certificates() -> Result<()> {
    let servers = [TlsRedis::start(&[]).await?, TlsRedis::start(&[]).await?];
    let one = &servers[0];
    let run = |command: &str, key: &str| -> Result<(i32, String)> {
        let output = Command::new(programs::built("unitring")?)
            .args(["group", command, "--unit", "east", "--group-servers"])
            .arg(format!("rediss://127.0.0.1:{}", one.port))
            .arg("--store-tls-ca")
            .arg(one.file("ca.pem"))
            .arg("--store-tls-cert")
            .arg(one.file("client.pem"))
            .arg("--store-tls-key")
            .arg(key)
            .output()?;
        let text = String::from_utf8([output.stdout, output.stderr].concat())?;
        Ok((output.status.code().context("killed")?, text))
    };
    let key = one.file("client.key");
    let key = key.to_str().context("path")?;
    let (code, text) = run("create", key)?;
    assert_eq!(code, 0, "{text}");
    let (code, text) = run("status", key)?;
    assert_eq!(code, 0, "{text}");
    // The configuration is wrong, even if the servers are well.
    let (code, text) = run("status", "/nowhere.key")?;
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("/nowhere.key"), "{text}");
    let strange = servers[1].file("client.key");
    let (code, text) = run("create", strange.to_str().context("path")?)?;
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("is the key of another certificate"), "{text}");
    Ok(())
}
