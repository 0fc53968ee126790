//! The golden tables of `routing/tests/golden/` are the real Envoy's choices.
//!
//! `UNITRING_WRITE_GOLDEN=1` writes them; otherwise they must match.

use std::collections::BTreeMap;
use std::env;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use unitring_tests::programs;

use super::case::{Case, Host, Ring};
use super::{own_clusters, owners, start};

const KEYS: usize = 60;

/// The content of a golden file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Golden {
    #[serde(flatten)]
    case: Case,
    /// Envoy's choice for each value of the key header.
    owners: BTreeMap<String, String>,
}

/// The files: a name, the settings `ring`, and the weights of the hosts.
const FILES: [(&str, &str, &[u32]); 8] = [
    (
        "ring_hash",
        r#"{"algorithm": "ring_hash", "hash": "xx_hash", "min_size": 1024, "max_size": 8388608}"#,
        &[1, 1, 1, 1],
    ),
    (
        "ring_hash_weights",
        r#"{"algorithm": "ring_hash", "hash": "xx_hash", "min_size": 1024, "max_size": 8388608}"#,
        &[1, 2, 3, 1],
    ),
    (
        "ring_hash_shrunk",
        r#"{"algorithm": "ring_hash", "hash": "xx_hash", "min_size": 10, "max_size": 19}"#,
        &[7, 1, 2, 2, 5],
    ),
    (
        "ring_hash_murmur",
        r#"{"algorithm": "ring_hash", "hash": "murmur_hash_2", "min_size": 1024, "max_size": 8388608}"#,
        &[1, 1, 1, 1],
    ),
    (
        "ring_hash_murmur_weights",
        r#"{"algorithm": "ring_hash", "hash": "murmur_hash_2", "min_size": 100, "max_size": 8388608}"#,
        &[1, 2, 3, 1],
    ),
    (
        "maglev",
        r#"{"algorithm": "maglev", "table_size": 65537}"#,
        &[1, 1, 1, 1],
    ),
    (
        "maglev_weights",
        r#"{"algorithm": "maglev", "table_size": 65537}"#,
        &[1, 2, 3, 1],
    ),
    (
        "maglev_small",
        r#"{"algorithm": "maglev", "table_size": 5}"#,
        &[1, 4, 1, 1, 1, 1, 1, 2],
    ),
];

#[tokio::test]
async fn the_golden_tables_are_what_envoy_says() -> Result<()> {
    let write = env::var_os("UNITRING_WRITE_GOLDEN").is_some_and(|value| value == "1");
    let folder = programs::root()?.join("routing/tests/golden");
    let cases: Result<Vec<Case>> = FILES.iter().map(|(_, ring, w)| case(ring, w)).collect();
    let cases = cases?;
    let keys: Vec<String> = (0..KEYS).map(|number| format!("user-{number}")).collect();
    let envoy = start(own_clusters(&cases)?).await?;
    let chosen = owners(&envoy, cases.len(), &keys).await?;
    for (((name, ..), case), chosen) in FILES.iter().zip(cases).zip(chosen) {
        let owners = keys.iter().cloned().zip(chosen).collect();
        let said = Golden { case, owners };
        let path = folder.join(format!("{name}.json"));
        if write {
            let text = serde_json::to_string_pretty(&said)?;
            fs::write(&path, text + "\n").with_context(|| path.display().to_string())?;
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let kept: Golden = serde_json::from_str(&text)?;
        ensure!(kept == said, "{}: Envoy says {said:?}", path.display());
    }
    Ok(())
}

fn case(ring: &str, weights: &[u32]) -> Result<Case> {
    let ring: Ring = serde_json::from_str(ring)?;
    let hosts = weights.iter().zip(1u16..).map(|(weight, number)| {
        Ok(Host {
            address: format!("127.0.0.{number}:{}", 8_080 + number),
            weight: (*weight).try_into()?,
        })
    });
    let hosts: Result<Vec<Host>> = hosts.collect();
    Ok(Case {
        ring,
        hosts: hosts?,
    })
}
