//! Each attempt is counted where it ran.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;
use unitring_tests::site::Site;

/// The source of the counts of attempts.
#[derive(Clone, Copy, PartialEq)]
enum Counts {
    /// Envoy, for each host.
    Envoy,
    /// The filter, by each answer, without Envoy's counts.
    Filter {
        /// Whether the answer has Envoy's number of attempts.
        in_answer: bool,
    },
}

#[tokio::test]
async fn calls_and_failures_are_those_that_the_instances_saw() -> Result<()> {
    counts_what_they_saw(Counts::Envoy).await
}

#[tokio::test]
async fn without_envoys_counts_the_instance_that_answered_is_charged_and_nobody_else() -> Result<()>
{
    counts_what_they_saw(Counts::Filter { in_answer: true }).await
}

#[tokio::test]
async fn an_answer_that_does_not_tell_of_its_attempts_is_charged_just_so() -> Result<()> {
    counts_what_they_saw(Counts::Filter { in_answer: false }).await
}

async fn counts_what_they_saw(counts: Counts) -> Result<()> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&instances, &[])?
        .unchecked()?
        .setting("ejection.consecutive_failures", json!(0))?;
    let config = match counts {
        Counts::Envoy => config,
        Counts::Filter { in_answer } => {
            let listed = instances
                .iter()
                .map(|instance| json!({"address": instance.address()}));
            let config = config
                .setting(
                    "discovery",
                    json!({"source": "static", "instances": listed.collect::<Vec<_>>()}),
                )?
                .setting("steer.attempts_in_response", json!(in_answer))?;
            if in_answer {
                config.edit_connections(tell_attempts)?
            } else {
                config
            }
        }
    };
    let envoy = Envoy::start_with_workers(&config, 2).await?;
    match counts {
        // A worker that does not know the instances yet leaves a request to Envoy, whose retries stay on
        // the same host.
        Counts::Envoy => envoy.steers_to(4).await?,
        // All workers know the instances from the start, and the filter does not read Envoy's clusters.
        Counts::Filter { .. } => envoy.has_eligible(4).await?,
    }
    let failing = instances.get(1).context("no b")?;
    failing.fail_with(503).await?;
    for number in 0..120 {
        let answer = envoy.get(&format!("user-{number}")).await?;
        ensure!(answer.status == 200, "request {number}: {answer:?}");
    }
    let failed = failing.load().await?.served;
    assert!(failed > 0);
    let mut seen = BTreeMap::new();
    for instance in &instances {
        let stat = instance.address().replace([':'], "_");
        let is_charged = counts == Counts::Envoy || instance.id != failing.id;
        let served = instance.load().await?.served;
        seen.insert(stat, if is_charged { served } else { 0 });
    }
    until("the filter to have counted the same", async || {
        let prefix = "wasmcustom.unitring.orders.";
        let stats = envoy.stats(prefix).await?;
        let of = |name: &str| stats.get(&format!("{prefix}{name}")).copied().unwrap_or(0);
        for (instance, served) in &seen {
            let calls = of(&format!("instance.{instance}.calls"));
            ensure!(calls == *served, "{instance}: {served} in {stats:?}");
        }
        let counted = (of("retries"), of("failures"));
        let expected = match counts {
            Counts::Envoy => (0, failed),
            Counts::Filter { .. } => (failed, 0),
        };
        ensure!(counted == expected, "{expected:?}: {stats:?}");
        Ok(())
    })
    .await
}

fn tell_attempts(connections: &mut Value) -> Result<()> {
    let host = connections.pointer_mut("/route_config/virtual_hosts/0");
    let host = host.and_then(Value::as_object_mut).context("no host")?;
    host.insert("include_attempt_count_in_response".to_owned(), json!(true));
    Ok(())
}

#[tokio::test]
async fn a_retried_request_is_in_flight_on_the_instance_that_answers_it() -> Result<()> {
    let mut site = Site::start_with_workers(2, |config| {
        config
            .patient()?
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
