//! Envoy's choice, derived from its admin pages alone: a second implementation beside `unitring-routing`,
//! written from Envoy's source (`load_balancer_impl.cc`, `thread_aware_lb_impl.cc`) for reading and not
//! for speed.

mod host;
mod table;

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use super::pages::Pages;
use host::{Host, Locality};
use table::{Shape, Table};

/// The known owner of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// The host of this address.
    Host(String),
    /// No host: Envoy answers the request itself.
    Nobody,
    /// The pages do not show it.
    Unknown(&'static str),
}

/// The policy that would choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// Envoy's own policy.
    Envoys,
    /// A module, which is not shown which hosts are excluded from their priority's health.
    Modules,
    /// The same with a `healthy_panic_threshold` of 0.
    ModulesWithoutPanic,
}

/// A cluster in one state.
#[derive(Debug)]
pub(super) struct Model {
    /// Percentages of the keys, in the order in which priorities are selected.
    loads: Vec<(usize, u64)>,
    tables: Vec<Table>,
    panics: Vec<bool>,
    /// The addresses on each table.
    placed: Vec<BTreeSet<String>>,
    /// Whether a table has hosts with the same name.
    same_names: Vec<bool>,
    /// The addresses of healthy hosts, of each priority.
    healthy: Vec<BTreeSet<String>>,
    /// The addresses of other hosts. An address may be among both.
    others: Vec<BTreeSet<String>>,
    /// The number of hosts whose flag excludes them from their priority's health.
    pub(super) excluded: u64,
}

impl Model {
    /// The pages do not show for an EDS cluster whether health counts weights.
    pub(super) fn read(pages: &Pages, weighted_priority_health: bool) -> Result<Self> {
        Self::read_as(View::Envoys, pages, weighted_priority_health)
    }

    /// The choice of an Envoy with this view.
    pub(super) fn read_as(
        view: View,
        pages: &Pages,
        weighted_priority_health: bool,
    ) -> Result<Self> {
        let mut settings = Settings {
            weighted_priority_health,
            ..Settings::read(pages)?
        };
        let (mut hosts, localities) = host::read(&pages.hosts, &pages.endpoints)?;
        if view != View::Envoys {
            for host in &mut hosts {
                host.is_excluded = false;
            }
        }
        if view == View::ModulesWithoutPanic {
            settings.threshold = 0.0;
        }
        let count = hosts
            .iter()
            .map(|host| host.priority + 1)
            .max()
            .unwrap_or(1);
        let priorities: Vec<Vec<&Host>> = (0..count)
            .map(|number| {
                hosts
                    .iter()
                    .filter(|host| host.priority == number)
                    .collect()
            })
            .collect();
        let (loads, panics) = loads(&priorities, &settings);
        let (mut tables, mut placed, mut same_names) = (Vec::new(), Vec::new(), Vec::new());
        let (mut healthy, mut others) = (Vec::new(), Vec::new());
        for (number, (hosts, panics)) in priorities.iter().zip(&panics).enumerate() {
            let localities = localities
                .iter()
                .filter(|locality| locality.priority == number);
            let parts = normalized(hosts, *panics, settings.by_locality, localities);
            let named = parts
                .iter()
                .map(|(host, part)| (*host, host.name(settings.by_hostname), *part));
            let named: Vec<_> = named.collect();
            tables.push(Table::build(&named, &settings.shape));
            placed.push(parts.iter().map(|(host, _)| host.address.clone()).collect());
            let names: BTreeSet<&str> = named.iter().map(|(_, name, _)| *name).collect();
            same_names.push(names.len() < named.len());
            let addresses = |is_healthy: bool| {
                let hosts = hosts.iter().filter(|host| host.is_healthy() == is_healthy);
                hosts.map(|host| host.address.clone()).collect()
            };
            healthy.push(addresses(true));
            others.push(addresses(false));
        }
        let excluded = hosts.iter().filter(|host| host.is_excluded).count();
        Ok(Self {
            loads,
            tables,
            panics,
            placed,
            same_names,
            healthy,
            others,
            excluded: u64::try_from(excluded)?,
        })
    }

    /// Properties of this state that a test run should have seen.
    pub(super) fn sights(&self) -> impl Iterator<Item = &'static str> {
        let (healthy, degraded) = self.loads.split_at(self.panics.len());
        let loaded = |loads: &[(usize, u64)]| loads.iter().filter(|(_, load)| *load > 0).count();
        let panicking = self.panics.iter().filter(|panics| **panics).count();
        let panics_with_load = healthy
            .iter()
            .any(|(at, load)| self.panics[*at] && *load > 0);
        let is_total = panicking == self.panics.len();
        let sights = [
            (
                loaded(healthy) + loaded(degraded) > 1,
                "load on several priorities",
            ),
            (loaded(degraded) > 0, "load on degraded"),
            (is_total, "total panic"),
            (is_total && panicking > 1, "total panic of several"),
            (!is_total && panicking > 0, "panic of some"),
            (!is_total && panics_with_load, "panic of some with load"),
        ];
        sights
            .into_iter()
            .filter_map(|(seen, sight)| seen.then_some(sight))
    }

    pub(super) fn owner(&self, hash: u64) -> Owner {
        let Some(priority) = self.priority(hash) else {
            return Owner::Unknown("no load is assigned, so Envoy keeps that of a state before");
        };
        self.tables[priority].owner(hash)
    }

    /// Whether Envoy could choose this address for a key under other loads or in a retry.
    pub(super) fn may_choose(&self, hash: u64, address: &str) -> bool {
        self.priority(hash)
            .is_some_and(|priority| self.placed[priority].contains(address))
    }

    /// Whether the owner of a key may be a host of this address that is not healthy.
    pub(super) fn may_be_unhealthy(&self, hash: u64, address: &str) -> bool {
        self.priority(hash).is_some_and(|priority| {
            self.panics[priority] && self.others[priority].contains(address)
        })
    }

    /// The healthy hosts of the first priority that has any.
    pub(super) fn first_healthy(&self) -> Option<&BTreeSet<String>> {
        self.healthy.iter().find(|hosts| !hosts.is_empty())
    }

    /// Whether hosts that a key could have share a name.
    pub(super) fn has_same_names(&self, hash: u64) -> bool {
        self.priority(hash)
            .is_some_and(|priority| self.same_names[priority])
    }

    fn priority(&self, hash: u64) -> Option<usize> {
        let mut rest = hash % 100 + 1;
        for (priority, load) in &self.loads {
            if rest <= *load {
                return Some(*priority);
            }
            rest -= load;
        }
        None
    }
}

#[derive(Debug)]
struct Settings {
    shape: Shape,
    by_hostname: bool,
    by_locality: bool,
    threshold: f64,
    overprovisioning: u64,
    weighted_priority_health: bool,
}

impl Settings {
    fn read(pages: &Pages) -> Result<Self> {
        let cluster = pages
            .settings
            .pointer("/configs/0/cluster")
            .context("no cluster")?;
        let mut policy = policy(cluster)?;
        if let Some(fallback) = policy.get("fallback_policy") {
            policy = self::policy(&serde_json::json!({"load_balancing_policy": fallback}))?;
        }
        let flag = |value: &Value, path: &str| value.pointer(path) == Some(&Value::Bool(true));
        let percent = cluster.pointer("/common_lb_config/healthy_panic_threshold");
        let percent = percent.map(|percent| percent["value"].as_f64().unwrap_or(0.0));
        let own = percent.map_or(50.0, |percent| f64::from(whole_percent(percent)));
        let runtime = "/entries/upstream.healthy_panic_threshold/final_value";
        let runtime = pages.runtime.pointer(runtime).and_then(Value::as_str);
        let runtime: Option<f64> = runtime.map(str::parse).transpose()?;
        let factor = pages
            .endpoints
            .pointer("/configs/0/endpoint_config/policy/overprovisioning_factor");
        Ok(Self {
            shape: Shape::read(&policy)?,
            by_hostname: flag(
                &policy,
                "/consistent_hashing_lb_config/use_hostname_for_hashing",
            ),
            by_locality: policy.get("locality_weighted_lb_config").is_some(),
            threshold: runtime.unwrap_or(own).min(100.0),
            overprovisioning: factor.and_then(Value::as_u64).unwrap_or(140),
            weighted_priority_health: false,
        })
    }
}

/// Cuts a threshold to whole percentages, in doubles as Envoy does: 29 counts as 28.
pub(super) fn whole_percent(percent: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to 100"
    )]
    let whole = (100.0 * (percent / 100.0)).floor() as u32;
    whole
}

fn policy(cluster: &Value) -> Result<Value> {
    let path = "/load_balancing_policy/policies/0/typed_extension_config/typed_config";
    Ok(cluster.pointer(path).context("no policy")?.clone())
}

/// The share of each priority, and which priorities are in panic mode.
fn loads(priorities: &[Vec<&Host>], settings: &Settings) -> (Vec<(usize, u64)>, Vec<bool>) {
    let Settings {
        threshold,
        overprovisioning,
        ..
    } = *settings;
    let weigh = |hosts: &[&Host], which: fn(&Host) -> bool| -> u64 {
        let weight = |host: &&&Host| {
            if settings.weighted_priority_health {
                host.weight
            } else {
                1
            }
        };
        hosts
            .iter()
            .filter(|host| which(host))
            .map(|host| weight(&host))
            .sum()
    };
    let availability = |which: fn(&Host) -> bool| -> Vec<u64> {
        let of = |hosts: &Vec<&Host>| {
            let part = overprovisioning * weigh(hosts, which);
            part.checked_div(weigh(hosts, |host| !host.is_excluded))
                .map_or(0, |part| part.min(100))
        };
        priorities.iter().map(of).collect()
    };
    let (healthy, degraded) = (
        availability(Host::is_healthy),
        availability(Host::is_degraded),
    );
    let total = healthy.iter().chain(&degraded).sum::<u64>().min(100);
    let both = || healthy.iter().chain(&degraded);
    let mut rest = 100;
    let mut loads: Vec<u64> = both()
        .map(|part| {
            let load = (part * 100).checked_div(total).unwrap_or(0).min(rest);
            rest -= load;
            load
        })
        .collect();
    if let Some(first) = both().position(|part| *part > 0) {
        loads[first] += rest;
    }
    let mut panics = vec![false; priorities.len()];
    if threshold == 0.0 && total == 0 {
        loads[0] = 100;
    } else {
        panics = priorities
            .iter()
            .map(|hosts| total != 100 && is_short(hosts, threshold))
            .collect();
        if panics.iter().all(|panics| *panics) {
            loads = loads_in_panic(priorities);
        }
    }
    let numbers = (0..priorities.len()).chain(0..priorities.len());
    (numbers.zip(loads).collect(), panics)
}

/// Whether too few hosts of a priority can be used.
fn is_short(hosts: &[&Host], threshold: f64) -> bool {
    let count = |which: fn(&Host) -> bool| {
        let count = hosts.iter().filter(|host| which(host)).count();
        f64::from(u32::try_from(count).expect("few hosts"))
    };
    let all = count(|host| !host.is_excluded);
    let percent = |part: f64| if all == 0.0 { 0.0 } else { 100.0 * part / all };
    percent(count(Host::is_healthy)) + percent(count(Host::is_degraded)) < threshold
}

fn loads_in_panic(priorities: &[Vec<&Host>]) -> Vec<u64> {
    let counts = priorities
        .iter()
        .map(|hosts| u64::try_from(hosts.len()).expect("few hosts"));
    let total: u64 = counts.clone().sum();
    let mut loads: Vec<u64> = counts
        .map(|count| (100 * count).checked_div(total).unwrap_or(0))
        .collect();
    let rest = 100 - loads.iter().sum::<u64>();
    let first = priorities
        .iter()
        .position(|hosts| !hosts.is_empty())
        .unwrap_or(0);
    loads[first] += rest;
    loads
}

/// The hosts that take keys, each with its fraction of the total.
fn normalized<'a>(
    hosts: &[&'a Host],
    panics: bool,
    by_locality: bool,
    localities: impl Iterator<Item = &'a Locality> + Clone,
) -> Vec<(&'a Host, f64)> {
    let used = hosts
        .iter()
        .copied()
        .filter(|host| panics || host.is_healthy());
    let weights = localities.clone().filter_map(|locality| locality.weight);
    if !by_locality || localities.clone().all(|locality| locality.weight.is_none()) {
        return shares(&used.collect::<Vec<_>>(), 1.0);
    }
    let sum: u64 = weights.sum();
    let mut parts = Vec::new();
    for locality in localities {
        let weight = locality.weight.filter(|weight| *weight > 0);
        if let Some(weight) = weight {
            let hosts = used.clone().filter(|host| host.place == locality.place);
            parts.extend(shares(
                &hosts.collect::<Vec<_>>(),
                table::as_f64(weight) / table::as_f64(sum),
            ));
        }
    }
    parts
}

fn shares<'a>(hosts: &[&'a Host], of: f64) -> Vec<(&'a Host, f64)> {
    let sum = table::as_f64(hosts.iter().map(|host| host.weight).sum());
    hosts
        .iter()
        .map(|host| (*host, table::as_f64(host.weight) * of / sum))
        .collect()
}
