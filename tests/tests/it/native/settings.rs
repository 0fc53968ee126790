//! Settings of the native module, and what becomes of bad ones.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::envoy::{Envoy, keys};
use unitring_tests::instance::Instance;
use unitring_tests::programs;
use unitring_tests::shell::Shell;

#[tokio::test]
async fn a_bad_setting_keeps_envoy_from_starting_and_one_line_names_it() -> Result<()> {
    for (settings, told) in [
        (
            json!({}),
            "service = null: is required: the name of a cluster",
        ),
        (
            json!({"service": "orders", "load": {"balance_factor": 50}}),
            "load.balance_factor = 50",
        ),
        (
            json!({"service": "orders", "key": [{"header": "x"}]}),
            "here the key is the hash_policy",
        ),
        (
            json!({"service": "orders", "discovery": {}}),
            "Envoy tells the policy its hosts",
        ),
        (json!({"service": "orders", "lod": {}}), "lod"),
    ] {
        let config = Shell::Native.config()?.settings(settings.clone())?;
        let log = Envoy::refuses(&config).await?;
        ensure!(log.contains(told), "{settings}: {told} is not in {log}");
    }
    let config = Shell::Native.config()?.edit(|bootstrap| {
        let place = "/bootstrap_extensions/0/typed_config/extension_config/value";
        let place = bootstrap.pointer_mut(place).context("no settings")?;
        *place = json!({"nod": "edge-1"});
        Ok(())
    })?;
    let log = Envoy::refuses(&config).await?;
    ensure!(log.contains("no other field than node"), "{log}");
    Ok(())
}

#[tokio::test]
async fn settings_may_come_in_each_form_that_envoy_passes_on() -> Result<()> {
    let instances = Instance::start_all(&["a", "b"]).await?;
    let text = r#"{"service": "orders", "ring": {"algorithm": "maglev"}}"#;
    for (kind, value) in [
        ("google.protobuf.StringValue", json!(text)),
        ("google.protobuf.Struct", serde_json::from_str(text)?),
    ] {
        let config = Shell::Native.config()?.instances(&instances, &[])?;
        let envoy = Envoy::start(&policy(config, |policy| {
            let kind = format!("type.googleapis.com/{kind}");
            policy["lb_policy_config"] = json!({"@type": kind, "value": value});
            Ok(())
        })?)
        .await?;
        envoy.steers_to(2).await?;
        envoy.owners(&keys(10)).await?;
        let log = envoy.log();
        ensure!(log.contains("65537 virtual nodes"), "{kind}: {log}");
    }
    Ok(())
}

#[tokio::test]
async fn an_older_envoy_refuses_the_configuration() -> Result<()> {
    let version = "1.36.4";
    let started = Envoy::start_version(version, &Shell::Native.config()?).await;
    let error = format!("{:?}", started.err().context("it has started")?);
    ensure!(error.contains("ended (exit status: 1)"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_missing_file_of_the_module_is_named() -> Result<()> {
    let nowhere = programs::root()?.join("target/no-such-module.so");
    let config = Shell::Native.config()?.module(&nowhere);
    let log = Envoy::refuses(&config).await?;
    ensure!(log.contains("no-such-module.so"), "{log}");
    Ok(())
}

fn policy(
    config: EnvoyConfig,
    change: impl FnOnce(&mut Value) -> Result<()>,
) -> Result<EnvoyConfig> {
    config.edit_cluster("orders", |orders| {
        let policy = "/load_balancing_policy/policies/0/typed_extension_config/typed_config";
        change(orders.pointer_mut(policy).context("no policy")?)
    })
}
