//! The native module beside Envoy's own policy: for each case a cluster with either, in one Envoy.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use unitring_tests::programs;
use unitring_tests::seed::seed;
use unitring_tests::traffic::keys::Numbers;

use super::case::Case;
use super::{CASES, KEYS, own_clusters, owners, random_key, start};

/// The native module as a policy with these settings.
pub(crate) fn policy(settings: &Value) -> Result<Value> {
    Ok(json!({
        "name": "envoy.load_balancing_policies.dynamic_modules",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.dynamic_modules.v3.DynamicModulesLoadBalancerConfig",
            "dynamic_module_config": {
                "module": {"local": {"filename": programs::native()?}},
                "do_not_close": true,
            },
            "lb_policy_name": "unitring",
            "lb_policy_config": {
                "@type": "type.googleapis.com/google.protobuf.Struct",
                "value": settings,
            },
        },
    }))
}

#[tokio::test]
async fn the_native_module_gives_the_owners_that_envoy_gives() -> Result<()> {
    let seed = seed("UNITRING_SEED")?;
    let mut numbers = Numbers::seeded(seed);
    let cases: Result<Vec<Case>> = (0..CASES).map(|_| Case::random(&mut numbers)).collect();
    let cases = cases?;
    let keys: Vec<String> = (0..KEYS).map(|_| random_key(&mut numbers)).collect();
    let mut clusters = own_clusters(&cases)?;
    for (number, case) in cases.iter().enumerate() {
        let name = (CASES + number).to_string();
        let settings = json!({
            "service": name,
            "ring": case.ring,
            // The owner alone is compared, however many requests it has.
            "load": {"balance_factor": 0},
        });
        let policy = policy(&settings)?;
        clusters.push(case.cluster_with(policy, &name, 1 + number % 3)?);
    }
    let count = clusters.len();
    let envoy = start(clusters).await?;
    let chosen = owners(&envoy, count, &keys).await?;
    let (own, native) = chosen.split_at(CASES);
    for ((case, own), native) in cases.iter().zip(own).zip(native) {
        let all = keys.iter().zip(own).zip(native);
        let differing: Vec<_> = all.filter(|((_, own), native)| own != native).collect();
        let text = serde_json::to_string(case)?;
        ensure!(
            differing.is_empty(),
            "UNITRING_SEED={seed}: {} of {KEYS} keys differ, as {:?}, in {text}\n{}",
            differing.len(),
            differing.first(),
            envoy.log(),
        );
    }
    Ok(())
}
