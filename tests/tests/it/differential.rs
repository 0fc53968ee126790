//! Invariant 1 for any hosts, weights and settings: the real Envoy and `unitring-routing` give the same
//! owner to every key, with `RING_HASH` and with `MAGLEV`; and so does the native module inside Envoy.
//!
//! One Envoy without the filter has a cluster for each case, and reports its chosen host in a header.
//! `UNITRING_SEED=7` repeats the cases of a run. [`key_sources`] compares the keys of requests.

mod case;
pub(crate) mod front;
mod golden;
mod key_sources;
pub(crate) mod native;

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use unitring_tests::envoy::Envoy;
use unitring_tests::raw::{Raw, get};
use unitring_tests::seed::seed;
use unitring_tests::traffic::keys::Numbers;

use case::{Case, owner};
use front::{Front, route};

const CASES: usize = 80;
const KEYS: usize = 250;
const CONNECTIONS: usize = 4;

#[tokio::test]
async fn any_hosts_weights_and_settings_give_the_owners_that_envoy_gives() -> Result<()> {
    let seed = seed("UNITRING_SEED")?;
    let mut numbers = Numbers::seeded(seed);
    let cases: Result<Vec<Case>> = (0..CASES).map(|_| Case::random(&mut numbers)).collect();
    let cases = cases?;
    let keys: Vec<String> = (0..KEYS).map(|_| random_key(&mut numbers)).collect();
    let envoy = start(own_clusters(&cases)?).await?;
    let expected = owners(&envoy, cases.len(), &keys).await?;
    for (case, expected) in cases.iter().zip(expected) {
        let table = case.table()?;
        let all = keys.iter().zip(&expected);
        let differing: Vec<_> = all
            .map(|(key, expected)| (key, expected, owner(&table, key)))
            .filter(|(_, expected, placed)| Some(expected.as_str()) != *placed)
            .collect();
        let text = serde_json::to_string(case)?;
        ensure!(
            differing.is_empty(),
            "UNITRING_SEED={seed}: {} of {KEYS} keys differ, as {:?}, in {text}",
            differing.len(),
            differing.first()
        );
    }
    Ok(())
}

/// A key of any length that the hash functions treat in a special way.
fn random_key(numbers: &mut Numbers) -> String {
    let mut key = format!("{:x}", numbers.draw());
    for _ in 0..numbers.below(4) {
        key.push_str(&format!("-{:x}", numbers.draw()));
    }
    let length = 1 + numbers.below(80);
    key.truncate(usize::try_from(length).unwrap_or(1));
    key
}

/// A cluster with Envoy's own policy for each case. Its name is its number.
fn own_clusters(cases: &[Case]) -> Result<Vec<Value>> {
    let cases = cases.iter().enumerate();
    cases
        .map(|(number, case)| case.cluster(&number.to_string(), 1 + number % 3))
        .collect()
}

/// An Envoy with these clusters; the header `x-case` selects one by its number, `x-user-id` is the key.
async fn start(clusters: Vec<Value>) -> Result<Envoy> {
    let mut front = Front::default();
    let hash_policy = json!([{"header": {"header_name": "x-user-id"}}]);
    for number in 0..clusters.len() {
        let name = number.to_string();
        let route = route(&[("x-case", &name)], &name, &hash_policy);
        front.routes.push(route);
    }
    front.clusters = clusters;
    front.start().await
}

/// The host that Envoy chooses for each key, in each of `clusters` clusters.
async fn owners(envoy: &Envoy, clusters: usize, keys: &[String]) -> Result<Vec<Vec<String>>> {
    let cases: Vec<usize> = (0..clusters).collect();
    let ask = async |cases: &[usize]| -> Result<Vec<Vec<String>>> {
        let mut connection = Raw::connect_from(Ipv4Addr::LOCALHOST, envoy.port).await?;
        let mut owners = Vec::new();
        for case in cases {
            let case = case.to_string();
            let request = |key: &String| {
                let (case, key) = (case.as_bytes(), key.as_bytes());
                get(
                    b"/",
                    &[("host", b"unitring"), ("x-case", case), ("x-user-id", key)],
                )
            };
            let requests: Vec<Vec<u8>> = keys.iter().map(request).collect();
            let answers = connection.ask(&requests).await?;
            let chosen = answers.iter().map(|answer| {
                let chosen = answer.header("x-chosen");
                let chosen = chosen.with_context(|| format!("case {case}: {answer:?}"));
                chosen.map(str::to_owned)
            });
            owners.push(chosen.collect::<Result<Vec<String>>>()?);
        }
        Ok(owners)
    };
    let parts = cases.chunks(cases.len().div_ceil(CONNECTIONS)).map(ask);
    Ok(try_join_all(parts).await?.concat())
}
