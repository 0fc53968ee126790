//! The health of a service's instances → the share of keys of each priority, and whether it panics.
//!
//! Follows `recalculatePerPriorityState`, `recalculateLoadInTotalPanic` and `choosePriority` of
//! Envoy 1.40 (`load_balancer_impl.cc`), with whole numbers where Envoy uses whole numbers: its
//! rounding decides which priority a key falls to.

use crate::membership::{Member, State};

/// How an Envoy cluster derives the load of its priorities from the health of its hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthRule {
    /// `healthy_panic_threshold`, in whole percent; 0 switches panic off.
    pub panic_threshold: u32,
    /// `overprovisioning_factor`, in percent: a priority keeps its whole share while its healthy
    /// part times this is at least 100 %.
    pub overprovisioning_factor: u32,
    /// `weighted_priority_health`: whether health is counted by weight instead of by host.
    pub weighted: bool,
}

impl Default for HealthRule {
    /// Envoy's defaults.
    fn default() -> Self {
        Self {
            panic_threshold: 50,
            overprovisioning_factor: 140,
            weighted: false,
        }
    }
}

/// The load of one priority.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PriorityLoad {
    /// How many of 100 keys its healthy hosts get.
    pub healthy: u32,
    /// How many of 100 keys its degraded hosts would get. Envoy's ring policies give them to the
    /// healthy hosts of the same priority.
    pub degraded: u32,
    /// Whether all of its hosts are used, whatever their health.
    pub panics: bool,
}

/// The greatest priority that an Envoy cluster may have.
pub const PRIORITY_MAX: u32 = 128;

/// The load of each priority, from 0 on. Members with a priority over [`PRIORITY_MAX`] do not
/// count.
pub fn priority_loads(members: &[Member], rule: &HealthRule) -> Vec<PriorityLoad> {
    let counts = counts(members, rule);
    let mut loads = vec![PriorityLoad::default(); counts.len()];
    let healthy: Vec<u64> = counts.iter().map(|c| c.percent(c.healthy, rule)).collect();
    let degraded: Vec<u64> = counts.iter().map(|c| c.percent(c.degraded, rule)).collect();
    let available = sum(&healthy).saturating_add(sum(&degraded)).min(100);
    if available > 0 {
        share_out(&mut loads, &healthy, &degraded, available);
    }
    if rule.panic_threshold == 0 && available == 0 {
        give_rest(&mut loads, 100, |at| at == 0);
        return loads;
    }
    for (load, count) in loads.iter_mut().zip(&counts) {
        load.panics = available != 100 && count.is_under(rule.panic_threshold);
    }
    if loads.iter().all(|load| load.panics) {
        share_out_in_panic(&mut loads, &counts);
    }
    loads
}

/// Counts of a priority's hosts.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// Number or weight of hosts, by [`HealthRule::weighted`].
    healthy: u64,
    degraded: u64,
    /// All but the excluded, by number or weight.
    all: u64,
    /// Number of hosts, whatever the rule.
    healthy_hosts: u32,
    degraded_hosts: u32,
    hosts: u32,
    excluded_hosts: u32,
}

impl Counts {
    fn percent(&self, part: u64, rule: &HealthRule) -> u64 {
        let factor = u64::from(rule.overprovisioning_factor);
        let percent = factor.saturating_mul(part).checked_div(self.all);
        percent.unwrap_or(0).min(100)
    }

    /// Whether less than this percentage of the hosts is usable; excluded hosts do not count as hosts.
    fn is_under(&self, threshold: u32) -> bool {
        let counted = f64::from(self.hosts.saturating_sub(self.excluded_hosts));
        let percent = |part: u32| 100.0 * f64::from(part) / counted;
        let usable = if counted == 0.0 {
            0.0
        } else {
            percent(self.healthy_hosts) + percent(self.degraded_hosts)
        };
        usable < f64::from(threshold.min(100))
    }
}

fn counts(members: &[Member], rule: &HealthRule) -> Vec<Counts> {
    let mut counts: Vec<Counts> = Vec::new();
    for member in members {
        if member.priority > PRIORITY_MAX {
            continue;
        }
        let Ok(at) = usize::try_from(member.priority) else {
            continue;
        };
        if counts.len() <= at {
            counts.resize(at + 1, Counts::default());
        }
        let Some(count) = counts.get_mut(at) else {
            continue;
        };
        let one = if rule.weighted {
            u64::from(member.weight.get())
        } else {
            1
        };
        count.hosts += 1;
        match member.state {
            State::Serving => {
                count.healthy += one;
                count.healthy_hosts += 1;
            }
            State::Degraded => {
                count.degraded += one;
                count.degraded_hosts += 1;
            }
            State::Failed(_) | State::Draining => {}
        }
        if member.excluded {
            count.excluded_hosts += 1;
        } else {
            count.all += one;
        }
    }
    counts
}

fn sum(numbers: &[u64]) -> u64 {
    numbers.iter().sum()
}

/// The shares go first to the healthy hosts of each priority in order, then to the degraded ones.
/// The remainder of rounding goes to the first priority that has any load.
fn share_out(loads: &mut [PriorityLoad], healthy: &[u64], degraded: &[u64], available: u64) {
    let mut rest = 100u32;
    let mut part = |percent: u64| {
        let part = u32::try_from(percent * 100 / available).unwrap_or(100);
        let part = part.min(rest);
        rest -= part;
        part
    };
    for (load, percent) in loads.iter_mut().zip(healthy) {
        load.healthy = part(*percent);
    }
    for (load, percent) in loads.iter_mut().zip(degraded) {
        load.degraded = part(*percent);
    }
    if healthy.iter().any(|percent| *percent > 0) {
        give_rest(loads, rest, |at| healthy.get(at).is_some_and(|p| *p > 0));
    } else if let Some(first) = degraded.iter().position(|percent| *percent > 0)
        && let Some(load) = loads.get_mut(first)
    {
        load.degraded += rest;
    }
}

/// By the number of hosts, whatever their health.
fn share_out_in_panic(loads: &mut [PriorityLoad], counts: &[Counts]) {
    let all: u64 = counts.iter().map(|count| u64::from(count.hosts)).sum();
    let mut rest = 100u32;
    for (load, count) in loads.iter_mut().zip(counts) {
        let percent = (100 * u64::from(count.hosts)).checked_div(all).unwrap_or(0);
        load.healthy = u32::try_from(percent).unwrap_or(100).min(rest);
        load.degraded = 0;
        rest -= load.healthy;
    }
    if all == 0 {
        return give_rest(loads, rest, |at| at == 0);
    }
    give_rest(loads, rest, |at| {
        counts.get(at).is_some_and(|c| c.hosts > 0)
    });
}

fn give_rest(loads: &mut [PriorityLoad], rest: u32, takes: impl Fn(usize) -> bool) {
    let taker = (0..loads.len()).find(|at| takes(*at));
    if let Some(load) = taker.and_then(|at| loads.get_mut(at)) {
        load.healthy += rest;
    }
}

#[cfg(test)]
mod tests;
