//! Waits until the filter places the keys of a unit.

use std::time::Duration;

use super::place::FIRST_INSTANCES;
use super::ports::UnitPorts;
use super::programs::Shell;
use super::{DemoError, Protocol, web};
use crate::clock;

/// How long Envoy may take until it sends keys to all instances.
const PLACED_TIMEOUT: Duration = Duration::from_secs(120);
const PLACED_EVERY: Duration = Duration::from_millis(100);

/// Waits until the service is reached by the filter, Envoy finds all instances healthy, and the companion knows it.
pub(super) async fn placed(
    protocol: Protocol,
    shell: &Shell,
    ports: UnitPorts,
) -> Result<(), DemoError> {
    let begin = clock::now();
    while let Err(seen) = is_placed(protocol, shell, ports).await {
        if clock::since(begin) > PLACED_TIMEOUT {
            let waited = PLACED_TIMEOUT.as_secs();
            return Err(DemoError::Request(format!(
                "keys are not placed after {waited} s: {seen}"
            )));
        }
        tokio::time::sleep(PLACED_EVERY).await;
    }
    Ok(())
}

/// The error is what is there instead.
async fn is_placed(protocol: Protocol, shell: &Shell, ports: UnitPorts) -> Result<(), String> {
    match protocol {
        Protocol::Http => is_answered(ports.listener, shell.explains()).await?,
        Protocol::Tcp => is_greeted(ports.listener).await?,
    }
    let admin = ports.admin;
    let custom = match shell {
        Shell::Filter(_) => "wasmcustom",
        Shell::Native(_) => "dynamicmodulescustom",
    };
    let eligible = format!(
        "http://127.0.0.1:{admin}/stats?filter=%5E{custom}.unitring.orders.instances_eligible%24"
    );
    let stat = web::request("GET", &eligible, "").await?.body;
    let awaited = format!(": {}", FIRST_INSTANCES.len());
    if !stat.trim_end().ends_with(&awaited) {
        return Err(stat);
    }
    is_located(&ports.companion_address()).await
}

/// By Envoy's report, which comes after its first look at the instances.
async fn is_located(companion: &str) -> Result<(), String> {
    let url = format!("http://{companion}/v1/services/orders/locate?key=ada");
    let answer = web::request("GET", &url, "").await?;
    if answer.status == 200 && !answer.body.contains(r#""owner":null"#) {
        Ok(())
    } else {
        Err(answer.body)
    }
}

async fn is_answered(listener: u16, is_explained: bool) -> Result<(), String> {
    let answer = web::request("GET", &format!("http://127.0.0.1:{listener}/"), "").await?;
    if answer.status == 200 && answer.reason.is_some() == is_explained {
        Ok(())
    } else {
        Err(format!("{} {}", answer.status, answer.body))
    }
}

/// Envoy accepts any connection, and closes it if no instance can be reached: the greeting counts.
async fn is_greeted(listener: u16) -> Result<(), String> {
    let greeting = web::greeting(listener).await?;
    if greeting.starts_with("instance ") {
        Ok(())
    } else {
        Err(format!("a connection begins with {greeting:?}"))
    }
}
