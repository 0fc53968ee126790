//! The panic threshold that Envoy's runtime has, from each kind of layer.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use unitring_tests::config::is_before;
use unitring_tests::deadline::until;
use unitring_tests::programs;

use super::super::changes::{Watched, typed};
use super::{Chosen, Fronts, all_named, host, locality, put};

/// A layer of the runtime with this threshold.
fn threshold(percent: u32) -> Value {
    json!({"upstream": {"healthy_panic_threshold": percent}})
}

/// Four hosts, of which the second and the third fail, and the first has this state.
fn four(first: &str) -> Value {
    let failed = |number| host(number, "UNHEALTHY");
    let hosts = [host(1, first), failed(2), failed(3), host(4, "HEALTHY")];
    json!([locality(0, &hosts)])
}

/// A threshold of the runtime overrides the cluster's own. Envoy reads the runtime when a host
/// changes.
#[tokio::test]
async fn the_runtimes_panic_threshold_comes_before_the_clusters_from_the_next_change_of_a_host_on()
-> Result<()> {
    let layers = json!({"layers": [
        {"name": "said", "static_layer": threshold(0)},
        {"name": "admin", "admin_layer": {}},
    ]});
    let assignment = json!({"endpoints": four("UNHEALTHY")});
    let fronts = Fronts::start_with(assignment, |config| config.field("layered_runtime", layers));
    let fronts = fronts.await?;
    fronts.agree(|chosen| all_named(chosen, &[4])).await?;
    fronts.looks_again().await?;
    let change = "/runtime_modify?upstream.healthy_panic_threshold=100";
    for envoy in [&fronts.native, &fronts.filtered] {
        envoy.order(change).await?;
    }
    fronts.looks_again().await?;
    fronts.agree(|chosen| all_named(chosen, &[4])).await?;
    put(&fronts.hosts, four("HEALTHY"))?;
    let everybody = |chosen: &[Chosen]| all_named(chosen, &[1, 2, 3, 4]);
    fronts.agree(everybody).await?;
    put(&fronts.hosts, four("UNHEALTHY"))?;
    fronts.agree(everybody).await
}

/// An older configuration does not allow `/runtime`.
#[tokio::test]
async fn a_runtime_that_the_filter_cannot_see_leaves_to_envoy_what_it_may_decide() -> Result<()> {
    // Envoy 1.36 has no `allow_paths`, so it shows all pages.
    if is_before(&programs::asked_envoy().unwrap_or_default(), 37) {
        return Ok(());
    }
    let of = |state: &str| {
        let hosts = [2, 3, 4].map(|number| host(number, "HEALTHY"));
        json!([locality(
            0,
            &[&[host(1, state), host(5, state)][..], &hosts].concat()
        )])
    };
    for (layer, decides) in [
        (
            json!({"name": "said", "static_layer": threshold(100)}),
            true,
        ),
        (json!({"name": "admin", "admin_layer": {}}), false),
    ] {
        let assignment = json!({"endpoints": of("HEALTHY")});
        let fronts = Fronts::start_with(assignment, |config| {
            let layers = json!({"layers": [layer]});
            config.field("layered_runtime", layers)?.edit(|bootstrap| {
                let paths = bootstrap.pointer_mut("/admin/allow_paths");
                let paths = paths.and_then(Value::as_array_mut).context("no paths")?;
                paths.retain(|path| path["exact"] != "/runtime");
                Ok(())
            })
        });
        let fronts = fronts.await?;
        fronts
            .agree(|chosen| all_named(chosen, &[1, 2, 3, 4, 5]))
            .await?;
        put(&fronts.hosts, of("UNHEALTHY"))?;
        let as_expected = |chosen: &[Chosen]| match decides {
            true => chosen.iter().all(|(_, named)| named.is_none()),
            false => all_named(chosen, &[2, 3, 4]),
        };
        fronts.agree(as_expected).await?;
        until("the log to say so, if it should", async || {
            let log = fronts.filtered.log();
            let told = log.contains("wired wrongly: runtime: ");
            ensure!(told == decides, "{log}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_panic_threshold_that_rtds_gives_and_changes_is_heeded_as_envoy_heeds_it() -> Result<()> {
    let runtime = Watched::new()?;
    let give = |percent| {
        let layer = json!({"name": "tuned", "layer": threshold(percent)});
        runtime.put(&typed("envoy.service.runtime.v3.Runtime", layer))
    };
    // Envoy has hosts from a file before it has this runtime, so it begins with its default.
    give(50)?;
    let layer = json!({"name": "tuned", "rtds_config": runtime.source()});
    let layers = json!({"layers": [{"name": "tuned", "rtds_layer": layer}]});
    let assignment = json!({"endpoints": four("HEALTHY")});
    let fronts = Fronts::start_with(assignment, |config| config.field("layered_runtime", layers));
    let fronts = fronts.await?;
    fronts.agree(|chosen| all_named(chosen, &[1, 4])).await?;
    give(100)?;
    until("both Envoys to have the new runtime", async || {
        for envoy in [&fronts.native, &fronts.filtered] {
            let shown = envoy.admin("/runtime").await?;
            ensure!(shown.contains("100"), "{shown}");
        }
        Ok(())
    })
    .await?;
    fronts.looks_again().await?;
    put(&fronts.hosts, four("UNHEALTHY"))?;
    fronts
        .agree(|chosen| all_named(chosen, &[1, 2, 3, 4]))
        .await
}
