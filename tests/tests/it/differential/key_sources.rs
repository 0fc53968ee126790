//! The filter's `key` and the same hash policies of a route give the same key, for any request.
//!
//! One Envoy has the same hosts behind the filter, once for each list of sources, and behind its own
//! `RING_HASH` with that list as hash policies; both get the same random requests. Where the filter fell
//! back, Envoy must have found no key either, and so have chosen at random.

mod requests;
mod source;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::programs;
use unitring_tests::raw::{Head, Raw};
use unitring_tests::seed::seed;
use unitring_tests::traffic::keys::Numbers;

use super::case::{Case, Hash, Host, Ring};
use super::front::{Front, route};
use requests::Request;
use source::Source;

const LISTS: usize = 24;
const REQUESTS: usize = 80;
/// Requests for each key: without a key, Envoy sends them all to the same of 12 hosts by chance once in
/// 12⁷ times.
const ASKED: usize = 8;
const HOSTS: u8 = 12;

#[tokio::test]
async fn any_request_has_the_key_that_envoys_hash_policies_give_it() -> Result<()> {
    let seed = seed("UNITRING_SEED")?;
    let mut numbers = Numbers::seeded(seed);
    let lists = source::lists(LISTS, &mut numbers);
    let envoy = start(&lists).await?;
    let mut clients = Vec::new();
    for last in 1..=3 {
        let ip = Ipv4Addr::new(127, 0, 0, last);
        clients.push((ip, Raw::connect_from(ip, envoy.port).await?));
    }
    let mut placed = 0;
    for (list, sources) in lists.iter().enumerate() {
        let (_, client) = &mut clients[0];
        until("the filter to steer", async || {
            let answers = ask(client, list, "filter", &Request::complete(), 1).await?;
            let steered = answers.iter().all(|(_, reason)| reason == "primary");
            ensure!(steered, "{answers:?}");
            Ok(())
        })
        .await?;
        for turn in 0..REQUESTS {
            let request = Request::random(&mut numbers);
            let turn = turn % clients.len();
            let (ip, client) = &mut clients[turn];
            let has_key = agree(client, list, &request).await.with_context(|| {
                format!("UNITRING_SEED={seed}: {request}, from {ip}, by {sources:?}")
            })?;
            placed += usize::from(has_key);
        }
    }
    // Most requests have some source of a key.
    ensure!(
        placed > LISTS * REQUESTS / 2,
        "the filter placed only {placed}"
    );
    Ok(())
}

/// Whether the filter found a key; fails if Envoy's own policy disagrees with the filter.
async fn agree(client: &mut Raw, list: usize, request: &Request) -> Result<bool> {
    let placed = ask(client, list, "filter", request, 1).await?;
    let (chosen, reason) = placed.first().context("no answer")?;
    let native = ask(client, list, "native", request, ASKED).await?;
    let native: BTreeSet<&str> = native.iter().map(|(chosen, _)| chosen.as_str()).collect();
    match reason.as_str() {
        "primary" => {
            let only = BTreeSet::from([chosen.as_str()]);
            ensure!(
                native == only,
                "the filter chose {chosen}, Envoy {native:?}"
            );
            Ok(true)
        }
        "fallback" => {
            ensure!(
                native.len() > 1,
                "the filter found no key, Envoy chose {native:?}"
            );
            Ok(false)
        }
        other => bail!("reason {other}"),
    }
}

/// The host that Envoy chose each time, and the reason if it chose by the filter.
async fn ask(
    client: &mut Raw,
    list: usize,
    way: &str,
    request: &Request,
    times: usize,
) -> Result<Vec<(String, String)>> {
    let list = list.to_string();
    let bytes = request.bytes(&[("x-list", list.as_bytes()), ("x-way", way.as_bytes())]);
    let answers = client.ask(&vec![bytes; times]).await?;
    let told = |answer: &Head| {
        let header = |name| answer.header(name).map(str::to_owned);
        let chosen = header("x-chosen").with_context(|| format!("{way}: {answer:?}"))?;
        Ok((chosen, header("x-unitring-reason").unwrap_or_default()))
    };
    answers.iter().map(told).collect()
}

/// The headers `x-list` and `x-way` select the sources, and whether the filter or Envoy reads them.
async fn start(lists: &[Vec<Source>]) -> Result<Envoy> {
    let hosts = (1..=HOSTS).map(|number| Host {
        address: format!("127.0.0.{number}:1"),
        weight: NonZeroU32::MIN,
    });
    let case = Case {
        ring: Ring::RingHash {
            hash: Hash::Xx,
            min_size: 1_024,
            max_size: 8_388_608,
        },
        hosts: hosts.collect(),
    };
    let mut front = Front::default();
    front.clusters.push(case.cluster("native", 1)?);
    let mut services = Vec::new();
    for (number, sources) in lists.iter().enumerate() {
        let number = number.to_string();
        let service = format!("service-{number}");
        let mut cluster = case.cluster(&service, 1)?;
        cluster["load_balancing_policy"] = override_host();
        front.clusters.push(cluster);
        let policies: Value = sources.iter().map(Source::hash_policy).collect();
        let of = |way| [("x-list", number.as_str()), ("x-way", way)];
        front.routes.push(route(&of("native"), "native", &policies));
        front
            .routes
            .push(route(&of("filter"), &service, &json!([])));
        let key: Value = sources.iter().map(Source::setting).collect();
        services.push(json!({"service": service, "key": key}));
    }
    let settings = json!({
        "services": services,
        "ring": case.ring,
        // The hosts have no servers, so every request fails.
        "ejection": {"consecutive_failures": 0},
        "discovery": {"source": "static", "instances": case.hosts},
        "companion": {"cluster": ""},
        "explain": true,
    });
    front.filters.push(filter(&settings)?);
    front.start().await
}

/// The policy behind the filter; its fallback is random, so that it cannot pass for the filter.
fn override_host() -> Value {
    let policy = |name: &str, message: &str, fields: Value| {
        let mut config = fields;
        config["@type"] = json!(format!(
            "type.googleapis.com/envoy.extensions.load_balancing_policies.{name}.v3.{message}"
        ));
        let name = format!("envoy.load_balancing_policies.{name}");
        json!({"policies": [{"typed_extension_config": {"name": name, "typed_config": config}}]})
    };
    let fallback = policy("random", "Random", json!({}));
    let fields = json!({
        "override_host_sources": [{"header": "x-unitring-host"}],
        "fallback_policy": fallback,
    });
    policy("override_host", "OverrideHost", fields)
}

fn filter(settings: &Value) -> Result<Value> {
    Ok(json!({
        "name": "unitring",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "unitring",
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": programs::filter()?}},
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.Struct",
                    "value": settings,
                },
            },
        },
    }))
}
