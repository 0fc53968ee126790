//! Requests with any key, and without one, are served; where Envoy's RING_HASH chooses by a key, the
//! filter agrees.

use anyhow::{Result, ensure};
use reqwest::header::HeaderValue;
use serde_json::json;
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Envoy, send};
use unitring_tests::instance::Instance;

/// The same four instances behind Envoy's own RING_HASH and behind the filter.
struct Pair {
    native: Envoy,
    filtered: Envoy,
    instances: Vec<Instance>,
}

impl Pair {
    async fn start() -> Result<Self> {
        let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
        let config = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &[])?;
        let config = config.edit_connections(|manager| {
            manager["max_request_headers_kb"] = json!(96);
            Ok(())
        })?;
        let native = Envoy::start(&config.clone().without_filter()?).await?;
        native.has_healthy(instances.len()).await?;
        let filtered = Envoy::start(&config).await?;
        filtered.steers_to(instances.len()).await?;
        Ok(Self {
            native,
            filtered,
            instances,
        })
    }

    /// The instance that both choose for these values of the key header.
    async fn owner(&self, keys: &[&[u8]]) -> Result<String> {
        let mut owners = Vec::new();
        for envoy in [&self.native, &self.filtered] {
            let mut request = envoy.request("/");
            for key in keys {
                request = request.header("x-user-id", HeaderValue::from_bytes(key)?);
            }
            let answer = send(request).await?;
            assert_eq!(answer.status, 200, "{keys:?}");
            owners.push(answer.instance);
        }
        assert_eq!(owners.first(), owners.last(), "{keys:?}");
        Ok(owners.swap_remove(0))
    }

    fn assert_no_panic(&self) {
        let log = self.filtered.log().to_ascii_lowercase();
        assert!(
            !log.contains("panic") && !log.contains("wasm trap"),
            "{log}"
        );
    }
}

#[tokio::test]
async fn any_bytes_are_a_key_and_go_where_ring_hash_sends_them() -> Result<()> {
    let pair = Pair::start().await?;
    let long = vec![b'k'; 64 * 1024];
    for key in [
        &b"\xff\xfe\x80"[..],
        b"",
        b"\xc3\xa9t\xc3\xa9",
        b"a,b",
        &long,
    ] {
        pair.owner(&[key]).await?;
    }
    pair.assert_no_panic();
    Ok(())
}

#[tokio::test]
async fn a_key_header_that_is_sent_twice_goes_where_ring_hash_sends_it() -> Result<()> {
    let pair = Pair::start().await?;
    for number in 0..20 {
        let (one, two) = (format!("one-{number}"), format!("two-{number}"));
        pair.owner(&[one.as_bytes(), two.as_bytes()]).await?;
    }
    pair.assert_no_panic();
    Ok(())
}

#[tokio::test]
async fn a_request_without_a_key_is_left_to_envoy_and_counted() -> Result<()> {
    let pair = Pair::start().await?;
    for _ in 0..20 {
        assert_eq!(send(pair.filtered.request("/")).await?.status, 200);
    }
    until("the counter", async || {
        let count = pair
            .filtered
            .stat("wasmcustom.unitring.orders.fallback.no_key")
            .await?;
        ensure!(count == 20, "it is {count}");
        Ok(())
    })
    .await?;
    pair.assert_no_panic();
    Ok(())
}

#[tokio::test]
async fn a_client_cannot_choose_its_instance() -> Result<()> {
    let pair = Pair::start().await?;
    let owner = pair.owner(&[b"ada"]).await?;
    for instance in &pair.instances {
        let forged = pair
            .filtered
            .request("/")
            .header("x-unitring-host", instance.address());
        let keyed = send(forged.header("x-user-id", "ada")).await?;
        assert_eq!((keyed.status, &keyed.instance), (200, &owner));
        let named = keyed.body["headers"]["x-unitring-host"][0]
            .as_str()
            .unwrap_or_default();
        let owner = pair.instances.iter().find(|instance| instance.id == owner);
        assert_eq!(
            named.split(',').next(),
            owner.map(Instance::address).as_deref()
        );
    }
    // Without a key, too, the client's header must not reach the cluster's policy.
    let aim = pair
        .instances
        .first()
        .map(Instance::address)
        .unwrap_or_default();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        seen.insert(
            send(pair.filtered.request("/").header("x-unitring-host", &aim))
                .await?
                .instance,
        );
    }
    assert!(seen.len() > 1, "all went to {seen:?}");
    pair.assert_no_panic();
    Ok(())
}
