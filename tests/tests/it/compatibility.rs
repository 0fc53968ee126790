//! Features of Envoy's clusters and routes: with the filter, Envoy serves as without it. Each has a row
//! in `docs/compatibility.md`.
//!
//! Most tests compare the shipped configuration with the same one without the filter, both changed alike.

mod changes;
pub(crate) mod clusters;
mod dns;
pub(crate) mod grpc;
mod hosts;
mod protocols;
mod restart;
pub(crate) mod routes;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::config::EnvoyConfig;
use unitring_tests::deadline::until;
use unitring_tests::envoy::{Answer, Envoy, send};
use unitring_tests::instance::Instance;
use unitring_tests::programs;

const KEYS: usize = 60;

/// A change of a configuration.
type Change<'a> = &'a dyn Fn(EnvoyConfig) -> Result<EnvoyConfig>;

#[tokio::test]
async fn the_envoy_that_runs_is_the_one_that_was_asked_for() -> Result<()> {
    let site = Instance::start("a").await?;
    let config = EnvoyConfig::shipped("envoy.yaml")?.instances(&[site], &[])?;
    let envoy = Envoy::start(&config).await?;
    let running = envoy.version().await?;
    match programs::asked_envoy() {
        Some(asked) => assert_eq!(running, asked),
        None => ensure!(running.starts_with("1."), "{running}"),
    }
    Ok(())
}

#[test]
fn every_test_that_the_page_names_is_there() -> Result<()> {
    let page = fs::read_to_string(programs::root()?.join("docs/compatibility.md"))?;
    let sources = sources(&programs::root()?.join("tests/tests/it"))?;
    let names = page.split('`').skip(1).step_by(2);
    // Names of tests have more words than fields of Envoy.
    let tests: Vec<&str> = names.filter(|name| name.matches('_').count() > 4).collect();
    ensure!(tests.len() > 40, "only {tests:?}");
    for name in tests {
        // Tests for both shells have an argument.
        ensure!(sources.contains(&format!("fn {name}(")), "no test {name}");
    }
    Ok(())
}

#[test]
fn every_row_of_the_page_names_its_test_or_says_that_there_is_none() -> Result<()> {
    let page = fs::read_to_string(programs::root()?.join("docs/compatibility.md"))?;
    let (_, tables) = page
        .split_once("## What a cluster and a route can have")
        .context("no tables")?;
    let rows = tables.lines().filter(|line| line.starts_with("| "));
    let rows: Vec<&str> = rows.filter(|row| !row.starts_with("| what |")).collect();
    ensure!(rows.len() > 50, "only {rows:?}");
    for row in rows {
        // A `\\|` is a part of a cell.
        let row = row.replace("\\|", "/");
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, kind, _, tests] = cells.as_slice() else {
            anyhow::bail!("not four cells: {row}");
        };
        match *tests {
            "not tested" => ensure!(!kind.contains("exact"), "a promise without a test: {row}"),
            "all of them" => {}
            tests => ensure!(tests.starts_with('`') && tests.contains('_'), "{row}"),
        }
    }
    Ok(())
}

/// The text of all files below this folder.
fn sources(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        text.push_str(&if path.is_dir() {
            sources(&path)?
        } else {
            fs::read_to_string(&path)?
        });
    }
    Ok(text)
}

/// The same instances behind Envoy's own policy and behind the filter.
struct Pair {
    native: Envoy,
    filtered: Envoy,
    instances: Vec<Instance>,
}

impl Pair {
    /// Starts the instances a, b, c, d, and both Envoys with the same change.
    async fn start(change: Change<'_>) -> Result<Self> {
        let instances = Instance::start_all(&["a", "b", "c", "d"]).await?;
        let config = EnvoyConfig::shipped("envoy.yaml")?.instances(&instances, &[])?;
        let config = change(config)?;
        let native = config.clone().without_filter()?;
        Self::of(instances, &native, &config).await
    }

    async fn of(
        instances: Vec<Instance>,
        native: &EnvoyConfig,
        filtered: &EnvoyConfig,
    ) -> Result<Self> {
        let native = Envoy::start(native).await?;
        native.has_healthy(instances.len()).await?;
        let filtered = Envoy::start(filtered).await?;
        filtered.steers_to(instances.len()).await?;
        Ok(Self {
            native,
            filtered,
            instances,
        })
    }

    /// The instance that answers for each key at this path: both Envoys agree, and the filter named it.
    async fn agree(&self, path: &str) -> Result<BTreeMap<String, String>> {
        let mut owners = BTreeMap::new();
        for number in 0..KEYS {
            let key = format!("user-{number}");
            let native = ask(&self.native, path, &key).await?;
            let placed = ask(&self.filtered, path, &key).await?;
            assert_eq!(placed.instance, native.instance, "{path}: {key}");
            is_steered(&placed, &self.instances)?;
            owners.insert(key, placed.instance);
        }
        Ok(owners)
    }

    /// Waits until the filter has no request in flight.
    async fn is_idle(&self) -> Result<()> {
        is_idle(&self.filtered).await
    }
}

/// The answer to a request with this key, which must be 200.
async fn ask(envoy: &Envoy, path: &str, key: &str) -> Result<Answer> {
    let answer = send(envoy.request(path).header("x-user-id", key)).await?;
    ensure!(answer.status == 200, "{path}: {key}: {answer:?}");
    Ok(answer)
}

/// The instances that the filter named to Envoy, from the request as it arrived; empty if Envoy chose.
fn named(answer: &Answer) -> Vec<&str> {
    let header = answer.body["headers"]["x-unitring-host"][0].as_str();
    header.map_or_else(Vec::new, |named| named.split(',').collect())
}

/// Fails unless the instance that answered is the first that the filter named.
fn is_steered(answer: &Answer, instances: &[Instance]) -> Result<()> {
    let address = address_of(&answer.instance, instances)?;
    let named = named(answer);
    ensure!(
        named.first() == Some(&address.as_str()),
        "{address} answered, named were {named:?}"
    );
    Ok(())
}

fn address_of(id: &str, instances: &[Instance]) -> Result<String> {
    let instance = instances.iter().find(|instance| instance.id == id);
    Ok(instance
        .with_context(|| format!("no instance {id}"))?
        .address())
}

async fn is_idle(envoy: &Envoy) -> Result<()> {
    until("nothing to be in flight", async || {
        let stats = envoy.stats("wasmcustom.unitring.").await?;
        let busy = |(name, count): &(&String, &u64)| name.ends_with("in_flight") && **count != 0;
        let busy: Vec<_> = stats.iter().filter(busy).collect();
        ensure!(busy.is_empty(), "{busy:?}");
        Ok(())
    })
    .await
}

/// The routes of a connection manager.
fn routes(manager: &mut Value) -> Result<&mut Vec<Value>> {
    let routes = manager.pointer_mut("/route_config/virtual_hosts/0/routes");
    routes.and_then(Value::as_array_mut).context("no routes")
}

/// Changes the shipped route.
fn edit_route(
    config: EnvoyConfig,
    change: impl FnOnce(&mut Value) -> Result<()>,
) -> Result<EnvoyConfig> {
    config.edit_connections(|manager| {
        let route = routes(manager)?.last_mut().context("no route")?;
        change(&mut route["route"])
    })
}

/// Adds a copy of the shipped route before it, for requests below this path.
fn add_route(
    config: EnvoyConfig,
    prefix: &str,
    change: impl FnOnce(&mut Value) -> Result<()>,
) -> Result<EnvoyConfig> {
    config.edit_connections(|manager| {
        let routes = routes(manager)?;
        let mut route = routes.last().context("no route")?.clone();
        route["match"] = json!({"prefix": prefix});
        change(&mut route)?;
        routes.insert(0, route);
        Ok(())
    })
}

/// Adds a cluster `carts` beside `orders`, and both as services of the filter.
fn with_carts(config: EnvoyConfig, carts: &[Instance]) -> Result<EnvoyConfig> {
    let common = |name: &str| {
        json!({
            "service": name,
            "key": [{"header": "x-user-id"}],
            "discovery": {"source": "admin", "cluster": "envoy_admin"},
        })
    };
    let config = config.copy_cluster("orders", "carts", carts)?;
    config.settings(json!({
        "services": [common("orders"), common("carts")],
        "companion": {"cluster": ""},
    }))
}

/// Waits until every VM of the filter steers to this many of `carts`, too, as [`Envoy::steers_to`] does for `orders`.
async fn steers_to_carts(envoy: &Envoy, expected: usize) -> Result<()> {
    let expected = u64::try_from(expected)?;
    let ours = async |name: &str| {
        envoy
            .stat(&format!("wasmcustom.unitring.carts.{name}"))
            .await
    };
    until("carts to be steered to", async || {
        let eligible = ours("instances_eligible").await?;
        let healthy = envoy.stat("cluster.carts.membership_healthy").await?;
        ensure!(
            (eligible, healthy) == (expected, expected),
            "{eligible}, {healthy}"
        );
        Ok(())
    })
    .await?;
    let seen = ours("discovery.done").await?;
    until("two more looks at carts", async || {
        ensure!(ours("discovery.done").await? >= seen + 2);
        Ok(())
    })
    .await
}

/// Switches off the filter's own ejection and Envoy's checks and outlier detection.
fn nobody_judges(config: EnvoyConfig) -> Result<EnvoyConfig> {
    config
        .setting("ejection.consecutive_failures", json!(0))?
        .edit_cluster("orders", |cluster| {
            let fields = cluster.as_object_mut().context("not an object")?;
            fields.remove("health_checks");
            fields.remove("outlier_detection");
            Ok(())
        })
}
