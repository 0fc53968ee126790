//! The files from which Envoy reads clusters and endpoints while it runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::super::cluster::Cluster;

/// The content of each file.
pub(super) type Files = BTreeMap<PathBuf, Value>;

/// The file with the endpoints of a cluster.
pub(super) fn endpoints_file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("eds-{number}.json"))
}

/// The file with the clusters that come by CDS.
pub(super) fn clusters_file(folder: &Path) -> PathBuf {
    folder.join("cds.json")
}

/// The files for these clusters, with their endpoints.
pub(super) fn files(clusters: &[Cluster], folder: &Path) -> Files {
    let resource = |kind: &str, mut resource: Value| {
        resource["@type"] = json!(format!("type.googleapis.com/envoy.config.{kind}"));
        resource
    };
    let mut files = BTreeMap::new();
    for cluster in clusters.iter().filter(|cluster| cluster.is_eds()) {
        let endpoints = resource("endpoint.v3.ClusterLoadAssignment", cluster.assignment());
        files.insert(endpoints_file(folder, cluster.number), json!([endpoints]));
    }
    let by_api = clusters.iter().filter(|cluster| cluster.by_api);
    let by_api: Value = by_api
        .map(|cluster| {
            let config = cluster.config(&endpoints_file(folder, cluster.number));
            resource("cluster.v3.Cluster", config)
        })
        .collect();
    files.insert(clusters_file(folder), by_api);
    files
}

/// Writes the files that differ, each in one step.
pub(super) fn write(written: &mut Files, files: Files) -> Result<()> {
    for (path, resources) in files {
        if written.get(&path) != Some(&resources) {
            let new = path.with_extension("new");
            fs::write(&new, serde_json::to_vec(&json!({"resources": resources}))?)?;
            fs::rename(&new, &path)?;
            written.insert(path, resources);
        }
    }
    Ok(())
}
