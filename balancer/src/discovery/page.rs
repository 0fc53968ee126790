//! `/clusters` as text → the hosts of one cluster: their addresses, health and counts.
//!
//! A line is `<cluster>::<address>::<stat>::<value>`. The lines of a host are consecutive and begin
//! with `cx_active`. Names and addresses may contain `::`, so the first line of a host gives its
//! prefix, and the other lines are matched by that prefix. A host may be listed more than once.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use unitring_routing::health::PRIORITY_MAX;
use unitring_routing::membership::{Cause, State};

use super::DiscoveryError;
use crate::settings::INSTANCES_MAX;
use crate::stored::stored;

/// The page's content for one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Whether the cluster came by CDS.
    pub via_api: bool,
    /// The name of its endpoints, if it differs from the cluster's.
    pub eds_name: Option<String>,
    /// In Envoy's order.
    pub hosts: Vec<Host>,
}

/// One host of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// `ip:port`, or the path of a socket, as Envoy writes it.
    pub address: String,
    /// Empty if the host has none.
    pub hostname: String,
    /// Its load-balancing weight.
    pub weight: NonZeroU32,
    /// Its priority; 0 is used first.
    pub priority: u32,
    /// Region, zone and sub-zone, each followed by a line feed, which none of them can contain.
    pub locality: String,
    /// Envoy's verdict on its health.
    pub state: State,
    /// Whether Envoy leaves it out when it computes how much of a priority is healthy.
    pub excluded: bool,
    /// Envoy's counts of its attempts.
    pub counts: HostCounts,
}

/// Envoy's counts of a host. Each attempt counts on the host where it ran
/// (`docs/compatibility.md`). They start at 0 when a host is new to Envoy, even if Envoy had the
/// same host before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostCounts {
    /// Attempts that were sent to it.
    pub calls: u64,
    /// Attempts that failed: 5xx, resets, time-outs, failed connects, gRPC failures, and every attempt that
    /// was retried, whatever its status.
    pub errors: u64,
    /// Attempts that did not fail.
    pub successes: u64,
    /// Errors that are failures for certain: failed connects and time-outs.
    pub sure: u64,
    /// Attempts under way, including those that wait for a connection.
    pub in_flight: u64,
}

stored!(HostCounts {
    calls,
    errors,
    successes,
    sure,
    in_flight
});

impl HostCounts {
    /// The sum, for an address that is listed more than once.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            errors: self.errors.saturating_add(other.errors),
            successes: self.successes.saturating_add(other.successes),
            sure: self.sure.saturating_add(other.sure),
            in_flight: self.in_flight.saturating_add(other.in_flight),
        }
    }
}

impl Host {
    /// Whether the header of `override_host` can name it. It cannot name a socket's path or an
    /// address with a scope.
    pub fn is_steerable(&self) -> bool {
        !self.address.contains('%') && self.address.parse::<SocketAddr>().is_ok()
    }
}

/// Reads the page of one service.
///
/// # Errors
/// If it is not a page of `/clusters`, if the cluster is not on it, or if it has too many hosts.
pub fn read(service: &str, body: &[u8]) -> Result<Page, DiscoveryError> {
    let text = str::from_utf8(body).map_err(|_| DiscoveryError::NoPage("it is not text"))?;
    let mut page = Page::default();
    let mut is_there = false;
    let mut block: Option<Block<'_>> = None;
    for line in text.lines() {
        let rest = line.strip_prefix(service);
        let Some(rest) = rest.and_then(|rest| rest.strip_prefix("::")) else {
            if line.contains("::") {
                continue;
            }
            return Err(DiscoveryError::NoPage("a line has no ::"));
        };
        is_there = true;
        if let Some((address, _)) = rest.rsplit_once("::cx_active::") {
            page.take(block.take())?;
            block = Some(Block::new(address));
        }
        match &mut block {
            Some(block) => block.read(rest)?,
            None => page.read(rest),
        }
    }
    page.take(block)?;
    if !is_there {
        return Err(DiscoveryError::NoCluster(service.to_owned()));
    }
    Ok(page)
}

impl Page {
    fn read(&mut self, line: &str) {
        if let Some(flag) = line.strip_prefix("added_via_api::") {
            self.via_api = flag == "true";
        } else if let Some(name) = line.strip_prefix("eds_service_name::") {
            self.eds_name = Some(name.to_owned());
        }
    }

    fn take(&mut self, block: Option<Block<'_>>) -> Result<(), DiscoveryError> {
        let Some(block) = block else {
            return Ok(());
        };
        if self.hosts.len() >= INSTANCES_MAX {
            return Err(DiscoveryError::TooMany(self.hosts.len() + 1));
        }
        self.hosts.push(block.host);
        Ok(())
    }
}

/// The lines of one host.
struct Block<'a> {
    prefix: &'a str,
    host: Host,
}

impl<'a> Block<'a> {
    fn new(address: &'a str) -> Self {
        Self {
            prefix: address,
            host: Host {
                address: address.to_owned(),
                hostname: String::new(),
                weight: NonZeroU32::MIN,
                priority: 0,
                locality: String::new(),
                state: State::Serving,
                excluded: false,
                counts: HostCounts::default(),
            },
        }
    }

    fn read(&mut self, line: &str) -> Result<(), DiscoveryError> {
        let stat = line.strip_prefix(self.prefix);
        let stat = stat.and_then(|stat| stat.strip_prefix("::"));
        let stat = stat.and_then(|stat| stat.split_once("::"));
        let Some((name, value)) = stat else {
            return Err(DiscoveryError::NoPage("a line belongs to no host"));
        };
        let number = || {
            let number = value.parse::<u64>();
            number.map_err(|_| DiscoveryError::NoPage("a count is not a number"))
        };
        let counts = &mut self.host.counts;
        match name {
            "rq_total" => counts.calls = number()?,
            "rq_error" => counts.errors = number()?,
            "rq_success" => counts.successes = number()?,
            "rq_timeout" | "cx_connect_fail" => {
                counts.sure = counts.sure.saturating_add(number()?);
            }
            "rq_active" | "rq_pending_active" => {
                counts.in_flight = counts.in_flight.saturating_add(number()?);
            }
            "hostname" => value.clone_into(&mut self.host.hostname),
            "health_flags" => (self.host.state, self.host.excluded) = state(value),
            "weight" => {
                let weight = number()?.try_into().ok().and_then(NonZeroU32::new);
                self.host.weight = weight.ok_or(DiscoveryError::NoPage("a weight is invalid"))?;
            }
            "region" | "zone" | "sub_zone" => {
                self.host.locality.push_str(value);
                self.host.locality.push('\n');
            }
            "priority" => {
                let priority = number()?.try_into().ok().filter(|p| *p <= PRIORITY_MAX);
                self.host.priority =
                    priority.ok_or(DiscoveryError::NoPage("a priority is invalid"))?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Envoy's own verdict, the gravest flag first. A host that is about to be removed keeps its state:
/// Envoy goes on using it while it passes its checks.
fn state(flags: &str) -> (State, bool) {
    let has = |flag: &str| flags.split('/').any(|other| other == flag);
    let state = if has("eds_status_draining") {
        State::Draining
    } else if has("failed_active_hc") {
        State::Failed(Cause::ActiveCheck)
    } else if has("failed_outlier_check") {
        State::Failed(Cause::OutlierDetection)
    } else if has("failed_eds_health") {
        State::Failed(Cause::Told)
    } else if DEGRADED.iter().any(|flag| has(flag)) {
        State::Degraded
    } else {
        State::Serving
    };
    (state, EXCLUDED.iter().any(|flag| has(flag)))
}

const DEGRADED: [&str; 3] = [
    "degraded_active_hc",
    "degraded_eds_health",
    "degraded_outlier_detection",
];
const EXCLUDED: [&str; 3] = [
    "eds_status_draining",
    "pending_active_hc",
    "excluded_via_immediate_hc_fail",
];
