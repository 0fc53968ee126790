//! The start of a world: its folder, its addresses, its Envoy's configuration.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, json};
use tempfile::TempDir;
use unitring_tests::traffic::keys::Numbers;

use super::super::address::Addresses;
use super::super::cluster::Cluster;
use super::super::responder::Responder;
use super::files::{clusters_file, endpoints_file};
use crate::differential::front::Front;

const PORT_TRIES: u16 = 20;

/// The name depends on the shell and the seed alone, because the paths of sockets are hashed.
pub(super) fn folder(shell: &str, seed: u64) -> Result<TempDir> {
    let name = format!("unitring-topology-{shell}-{seed}");
    // Removes what a killed run has left.
    match fs::remove_dir_all(env::temp_dir().join(&name)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    Ok(tempfile::Builder::new()
        .prefix(&name)
        .rand_bytes(0)
        .tempdir()?)
}

/// The addresses of a world, and the server that answers there.
pub(super) fn answering(numbers: &mut Numbers, folder: &Path) -> Result<(Addresses, Responder)> {
    let first = u16::try_from(10_000 + numbers.below(20_000))?;
    let mut error = None;
    for port in first..first + PORT_TRIES {
        let mut drawn = numbers.clone();
        let addresses = Addresses::random(&mut drawn, folder, port);
        let mut responder = Responder::new();
        match responder.listen(&addresses.answering) {
            Ok(()) => {
                *numbers = drawn;
                return Ok((addresses, responder));
            }
            Err(taken) => error = Some(taken),
        }
    }
    Err(error.context("no port was tried")?)
}

/// The Envoy's configuration, with this panic threshold of its runtime; the header `x-cluster` of a request
/// selects the cluster.
pub(super) fn front(
    clusters: &[Cluster],
    runtime_percent: Option<u32>,
    folder: &Path,
    numbers: &mut Numbers,
) -> Front {
    let mut front = Front::default();
    for cluster in clusters.iter().filter(|cluster| !cluster.by_api) {
        front
            .clusters
            .push(cluster.config(&endpoints_file(folder, cluster.number)));
    }
    front.routes.push(json!({
        "match": {"prefix": "/"},
        "route": {
            "cluster_header": "x-cluster",
            "hash_policy": [{"header": {"header_name": "x-user-id"}}],
        },
    }));
    let [region, zone] = [
        numbers.pick(&["", "north", "south"]),
        numbers.pick(&["", "a", "b"]),
    ];
    let mut others = Map::new();
    let locality = json!({"region": region, "zone": zone});
    others.insert(
        "node".to_owned(),
        json!({"id": "tests", "cluster": "tests", "locality": locality}),
    );
    let cds = json!({"path": clusters_file(folder)});
    let cds = json!({"path_config_source": cds, "resource_api_version": "V3"});
    others.insert("dynamic_resources".to_owned(), json!({"cds_config": cds}));
    // Without it no address of an internal listener is accepted.
    let extension = json!([{
        "name": "envoy.bootstrap.internal_listener",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"},
    }]);
    others.insert("bootstrap_extensions".to_owned(), extension);
    if let Some(percent) = runtime_percent {
        let says = json!({"upstream": {"healthy_panic_threshold": percent}});
        let layer = json!({"name": "static", "static_layer": says});
        others.insert("layered_runtime".to_owned(), json!({"layers": [layer]}));
    }
    front.others = others;
    front
}
