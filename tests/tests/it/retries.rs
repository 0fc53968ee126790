//! Each attempt is counted where it ran.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::deadline::until;
use unitring_tests::site::Site;

/// Where the filter may learn how often Envoy tried.
#[derive(Clone, Copy, PartialEq)]
enum Attempts {
    /// Of the answer, as in the shipped configuration.
    Answer,
    /// It looks there in vain, so of Envoy.
    MissingInAnswer,
    Envoy,
}

#[tokio::test]
async fn calls_and_failures_are_those_that_the_instances_saw() -> Result<()> {
    counts_what_they_saw(Attempts::Answer).await
}

#[tokio::test]
async fn an_answer_that_does_not_tell_of_its_attempts_is_counted_just_so() -> Result<()> {
    counts_what_they_saw(Attempts::MissingInAnswer).await
}

#[tokio::test]
async fn envoy_is_asked_for_the_attempts_by_default() -> Result<()> {
    counts_what_they_saw(Attempts::Envoy).await
}

async fn counts_what_they_saw(attempts: Attempts) -> Result<()> {
    let mut site = Site::start_with_workers(2, |config| {
        let config = config
            .unchecked()?
            .setting("ejection.consecutive_failures", json!(0))?
            .setting(
                "steer.attempts_in_response",
                json!(attempts != Attempts::Envoy),
            )?;
        match attempts {
            Attempts::MissingInAnswer => config.edit_connections(silent),
            Attempts::Answer | Attempts::Envoy => Ok(config),
        }
    })
    .await?;
    site.instance("b").fail_with(503).await?;
    for number in 0..120 {
        let answer = site.envoy.get(&format!("user-{number}")).await?;
        ensure!(answer.status == 200, "{}", answer.status);
    }
    let mut seen = BTreeMap::new();
    for instance in &site.instances {
        let stat = instance.address().replace([':'], "_");
        seen.insert(stat, instance.load().await?.served);
    }
    let failed = site.instance("b").load().await?.served;
    assert!(failed > 0);
    until("the filter to have counted the same", async || {
        let prefix = "wasmcustom.unitring.orders.";
        let stats = site.envoy.stats(prefix).await?;
        let of = |name: &str| stats.get(&format!("{prefix}{name}")).copied();
        for (instance, served) in &seen {
            let calls = of(&format!("instance.{instance}.calls"));
            ensure!(calls == Some(*served), "{instance}: {served} in {stats:?}");
        }
        let counted = (of("retries"), of("failures"));
        ensure!(
            counted == (Some(failed), Some(failed)),
            "{failed}: {stats:?}"
        );
        Ok(())
    })
    .await
}

fn silent(connections: &mut Value) -> Result<()> {
    let host = connections.pointer_mut("/route_config/virtual_hosts/0");
    let host = host.and_then(Value::as_object_mut).context("no host")?;
    let told = host.remove("include_attempt_count_in_response");
    ensure!(told == Some(json!(true)), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn a_retried_request_is_in_flight_on_the_instance_that_answers_it() -> Result<()> {
    let mut site = Site::start_with_workers(2, |config| {
        config
            .unchecked()?
            .setting("ejection.consecutive_failures", json!(0))
    })
    .await?;
    site.instance("a").kill()?;
    let mut held = Vec::new();
    for number in 0..40 {
        let request = site.envoy.request("/?stream_ms=120000");
        let request = request.header("x-user-id", format!("user-{number}"));
        held.push(request.send().await?.error_for_status()?);
    }
    let mut truth = BTreeMap::new();
    for instance in &site.instances {
        let in_flight = if instance.id == "a" {
            0
        } else {
            instance.load().await?.in_flight
        };
        truth.insert(instance.address().replace(':', "_"), in_flight);
    }
    assert_eq!(truth.values().sum::<u64>(), 40);
    for (instance, in_flight) in &truth {
        let name = format!("wasmcustom.unitring.orders.instance.{instance}.in_flight");
        assert_eq!(site.envoy.stat(&name).await?, *in_flight, "{instance}");
    }
    drop(held);
    Ok(())
}
