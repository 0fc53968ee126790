//! The text of a bootstrap → its parts. YAML has JSON in it, so one reader takes both.

use serde_json::Value;

use super::super::json::{at, list, text, with_envoys_names};
use super::{Cluster, Envoy, Listener, ReadError};

/// Every bootstrap has one of these fields.
const FIELDS: [&str; 4] = ["static_resources", "dynamic_resources", "admin", "node"];

/// Reads a bootstrap.
///
/// # Errors
/// [`ReadError`]: the text is no YAML, or no bootstrap.
pub(crate) fn read(text: &str) -> Result<Envoy, ReadError> {
    let json: Value = serde_yaml_ng::from_str(text)
        .map_err(|error| ReadError(format!("neither YAML nor JSON: {error}")))?;
    let Value::Object(fields) = with_envoys_names(json) else {
        return Err(ReadError("no bootstrap: must be an object".to_owned()));
    };
    if !FIELDS.iter().any(|field| fields.contains_key(*field)) {
        let error = format!("no bootstrap: has none of {}", FIELDS.join(", "));
        return Err(ReadError(error));
    }
    let json = Value::Object(fields);
    form(&json).map_err(ReadError)?;
    Ok(parts(json))
}

/// Checks the outermost lists: no Envoy has read a file that has something else there.
fn form(json: &Value) -> Result<(), String> {
    for field in ["static_resources", "dynamic_resources", "admin"] {
        if at(json, field).is_some_and(|value| !value.is_object()) {
            return Err(format!("no bootstrap: {field} must be an object"));
        }
    }
    for field in ["static_resources.listeners", "static_resources.clusters"] {
        if at(json, field).is_some_and(|value| !value.is_array()) {
            return Err(format!("no bootstrap: {field} must be a list"));
        }
    }
    Ok(())
}

fn parts(json: Value) -> Envoy {
    let clusters = list(&json, "static_resources.clusters").iter().enumerate();
    let clusters: Vec<Cluster> = clusters
        .map(|(at, json)| Cluster::new(format!("static_resources.clusters[{at}]"), json.clone()))
        .collect();
    let listeners = list(&json, "static_resources.listeners").iter().enumerate();
    let listeners = listeners.map(|(at, json)| Listener {
        name: text(json, "name").map_or_else(|| format!("{at}"), str::to_owned),
        json: json.clone(),
    });
    let listeners = listeners.collect();
    let has = |field: &str| at(&json, &format!("dynamic_resources.{field}")).is_some();
    let (lds, cds) = (has("lds_config"), has("cds_config"));
    let mut unseen = Vec::new();
    let mut comes = |field: &str, what: &str| {
        unseen.push((format!("dynamic_resources.{field}"), what.to_owned()));
    };
    if lds {
        comes("lds_config", "listeners come by LDS");
    }
    if cds {
        comes("cds_config", "clusters come by CDS");
    }
    for cluster in clusters.iter().filter(|cluster| cluster.kind() == "EDS") {
        let what = format!("the endpoints of the cluster {} come by EDS", cluster.name);
        unseen.push((cluster.path("eds_cluster_config"), what));
    }
    Envoy {
        bootstrap: without_resources(json),
        clusters,
        listeners,
        unseen,
        has_more_listeners: lds,
        has_more_clusters: cds,
        ..Envoy::default()
    }
}

fn without_resources(mut json: Value) -> Value {
    if let Some(fields) = json.as_object_mut() {
        fields.remove("static_resources");
    }
    json
}
