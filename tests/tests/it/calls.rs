//! The hostcalls of a request: every call of the filter into Envoy, from Envoy's own trace of its VMs. By
//! default the answer is not read.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::instance::Instance;

/// More than the first requests of a VM, which are sampled, and fewer than lead to the next sample.
const BEFORE: usize = 20;
const TRACED: usize = 20;

/// The calls of a request, in their order.
const OF_A_REQUEST: [&str; 6] = [
    // Its headers, in one call.
    "proxy_get_header_map_pairs(0",
    // A place on its instance, and whether that was one too many.
    "proxy_increment_metric",
    "proxy_get_metric",
    // The choice.
    "proxy_add_header_map_value(0",
    // The answer's announcement of updates is removed, unread.
    "proxy_remove_header_map_value(2",
    // The place is given back.
    "proxy_increment_metric",
];

/// A call that brings something of the answer into the VM.
fn reads_answer(call: &str) -> bool {
    call.starts_with("proxy_get_header_map_pairs(2")
        || call.starts_with("proxy_get_header_map_value(2")
        || call.starts_with("proxy_get_property")
}

/// The first argument of a call in a trace: `name(1, 2)` gives 1.
fn first_argument(call: &str) -> Option<&str> {
    let (_, arguments) = call.split_once('(')?;
    arguments.split([',', ')']).next()
}

/// The calls into Envoy of each stream that began and ended within the trace, by its context.
fn traced(log: &str) -> BTreeMap<String, Vec<String>> {
    let mut streams: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // By thread: the context that the VM was called for.
    let mut called: BTreeMap<&str, &str> = BTreeMap::new();
    for line in log.lines() {
        let Some(thread) = line.split("][").nth(1) else {
            continue;
        };
        if let Some((_, call)) = line.split_once("[host->vm] ") {
            let Some(context) = first_argument(call) else {
                continue;
            };
            if call.starts_with("proxy_on_context_create") {
                streams.insert(context.to_owned(), Vec::new());
            }
            if !call.starts_with("proxy_on_memory_allocate") {
                called.insert(thread, context);
            }
        } else if let Some((_, call)) = line.split_once("[vm->host] env.") {
            let stream = called
                .get(thread)
                .and_then(|context| streams.get_mut(*context));
            stream
                .into_iter()
                .for_each(|calls| calls.push(call.to_owned()));
        }
    }
    streams
}

/// What was traced.
struct Traced {
    /// The calls of each request.
    requests: Vec<Vec<String>>,
    /// The ticks of all VMs meanwhile.
    ticks: usize,
}

/// The calls of each of some requests with these settings besides the service and its key.
async fn calls_with(settings: Value) -> Result<Traced> {
    let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
    let mut all = json!({"service": "orders", "key": [{"header": "x-user-id"}]});
    for (name, value) in settings.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    if settings["discovery"] == json!("static") {
        let listed = instances
            .iter()
            .map(|one| json!({"address": one.address()}));
        let listed: Vec<Value> = listed.collect();
        all["discovery"] = json!({"source": "static", "instances": listed});
    }
    let config = EnvoyConfig::shipped("envoy.yaml")?
        .instances(&instances, &[])?
        .settings(all)?
        .edit(|bootstrap| {
            let paths = bootstrap.pointer_mut("/admin/allow_paths");
            let paths = paths.and_then(Value::as_array_mut).context("no paths")?;
            paths.push(json!({"prefix": "/logging"}));
            Ok(())
        })?;
    let envoy = Envoy::start(&config).await?;
    if settings["discovery"] == json!("static") {
        // All VMs know a list from the start.
        envoy.has_eligible(4).await?;
    } else {
        // The VM that serves may read what another has found later than the tests read its gauge.
        envoy.steers_to(4).await?;
    }
    let ask = async |count: usize| -> Result<()> {
        for number in 0..count {
            let answer = envoy.get(&format!("user-{number}")).await?;
            ensure!(answer.status == 200, "{answer:?}");
        }
        Ok(())
    };
    ask(BEFORE).await?;
    let begin = envoy.log().len();
    envoy.order("/logging?wasm=trace").await?;
    ask(TRACED).await?;
    let ended = until("the end of each request to be traced", async || {
        let log = envoy.log();
        let log = log.get(begin..).unwrap_or_default();
        let ends = log.matches("[host<-vm] proxy_on_delete").count();
        ensure!(ends >= TRACED, "{ends}");
        Ok((traced(log), log.matches("[host->vm] proxy_on_tick").count()))
    })
    .await?;
    let (streams, ticks) = ended;
    ensure!(streams.len() >= TRACED, "{streams:?}");
    let requests = streams.into_values().take(TRACED).collect();
    Ok(Traced { requests, ticks })
}

/// The calls without that for the connection's number, which a VM reads for one request a second.
fn without_connection(mut calls: Vec<String>) -> Vec<String> {
    if calls
        .get(1)
        .is_some_and(|call| call.starts_with("proxy_get_property"))
    {
        calls.remove(1);
    }
    calls
}

fn are_pinned(calls: &[String], pinned: &[&str]) -> bool {
    let mut both = calls.iter().zip(pinned);
    calls.len() == pinned.len() && both.all(|(call, pinned)| call.starts_with(pinned))
}

#[tokio::test]
async fn by_default_an_answer_is_not_read_and_a_request_costs_six_calls() -> Result<()> {
    for settings in [json!({}), json!({"companion": {"cluster": "unitring"}})] {
        let all = calls_with(settings).await?.requests;
        let most = all.iter().any(|calls| are_pinned(calls, &OF_A_REQUEST));
        ensure!(most, "{all:#?}");
        for calls in all {
            let calls = without_connection(calls);
            ensure!(!calls.iter().any(|call| reads_answer(call)), "{calls:#?}");
            ensure!(are_pinned(&calls, &OF_A_REQUEST), "{calls:#?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn under_a_hard_cap_a_request_also_reads_the_load_of_its_retries_now_and_then() -> Result<()>
{
    let is_read = |call: &str| call.starts_with("proxy_get_metric");
    let others: Vec<&str> = OF_A_REQUEST
        .into_iter()
        .filter(|call| !is_read(call))
        .collect();
    let traced = calls_with(json!({"load": {"max_in_flight": 50}})).await?;
    let mut of_others = 0;
    for calls in traced.requests {
        let (reads, calls): (Vec<String>, Vec<String>) = without_connection(calls)
            .into_iter()
            .partition(|call| is_read(call));
        // That of its own instance, and at most those of its two others.
        ensure!((1..=3).contains(&reads.len()), "{reads:#?} {calls:#?}");
        ensure!(are_pinned(&calls, &others), "{calls:#?}");
        of_others += reads.len() - 1;
    }
    // The load of each of the four is read once from one tick to the next.
    let most = 4 * (1 + traced.ticks);
    ensure!(of_others <= most, "{of_others} of {most}");
    Ok(())
}

#[tokio::test]
async fn an_answer_is_read_where_a_setting_needs_it() -> Result<()> {
    for (settings, needed) in [
        (json!({"explain": true}), "proxy_get_property"),
        (
            json!({"capture": {"mode": "count"}}),
            "proxy_get_header_map_value(2",
        ),
        // Without Envoy's counts the filter judges by the answer.
        (
            json!({"discovery": "static"}),
            "proxy_get_header_map_pairs(2",
        ),
    ] {
        for calls in calls_with(settings.clone()).await?.requests {
            let reads = calls.iter().any(|call| call.starts_with(needed));
            ensure!(reads, "{settings}: {calls:#?}");
            ensure!(calls.iter().any(|call| reads_answer(call)), "{calls:#?}");
        }
    }
    Ok(())
}
