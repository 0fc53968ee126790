//! An Envoy → every service that unitring places in it, with what hands it requests.

use serde_json::json;
use unitring_balancer::discovery::cluster;
use unitring_balancer::settings::Settings;

use super::envoy::Cluster;
use super::managers::{Filter, Manager, Policy};

/// The filter or module that places the requests of a service.
#[derive(Debug)]
pub(super) enum Shell<'a> {
    Filter(&'a Filter<'a>),
    Native(&'a Policy),
}

/// A service that unitring places.
#[derive(Debug)]
pub(super) struct Placed<'a> {
    /// Where its settings are.
    pub(super) place: String,
    pub(super) settings: &'a Settings,
    pub(super) shell: Shell<'a>,
    /// The connection managers that hand it requests.
    pub(super) managers: Vec<&'a Manager<'a>>,
}

/// Every service that is placed, by the filters and by the policies.
pub(super) fn placed<'a>(managers: &'a [Manager<'a>], policies: &'a [Policy]) -> Vec<Placed<'a>> {
    let mut all = Vec::new();
    for manager in managers {
        for filter in &manager.filters {
            for settings in filter.settings.iter().flat_map(|services| &services.all) {
                all.push(Placed {
                    place: filter.place.clone(),
                    settings,
                    shell: Shell::Filter(filter),
                    managers: vec![manager],
                });
            }
        }
    }
    for policy in policies {
        if let Ok(settings) = &policy.settings {
            all.push(Placed {
                place: policy.place.clone(),
                settings,
                shell: Shell::Native(policy),
                managers: managers.iter().collect(),
            });
        }
    }
    all
}

pub(super) fn as_filter_reads(cluster: &Cluster) -> Result<cluster::Cluster, String> {
    let body = json!({"configs": [{"cluster": cluster.json}]}).to_string();
    match cluster::read(body.as_bytes()) {
        Ok(Some(read)) => Ok(read),
        Ok(None) => Err("it cannot be read".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
