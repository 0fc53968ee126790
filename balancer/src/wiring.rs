//! Envoy's configuration and the filter's own stats → mistakes in the wiring, each with its fix.
//!
//! Envoy accepts each of these mistakes silently, and requests flow; only the bound is off, or
//! instances are not seen. So the filter shows each mistake: in the log, repeated with growing
//! pauses while it lasts; in a stat of its own; and in the report, which the companion shows.

use unitring_protocol::report::Finding;

use crate::capture;
use crate::discovery::cluster::{Cluster, Fallback};
use crate::discovery::routes::Route;
use crate::discovery::runtime::Runtime;
use crate::discovery::statuses::Hidden;
use crate::settings::{CaptureMode, Settings};

pub mod keys;

/// The first pause between two warnings; each further pause is twice as long.
const PAUSE_MS_MIN: u64 = 60_000;
/// The longest pause.
const PAUSE_MS_MAX: u64 = 3_600_000;

/// The kinds of mistakes, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The cluster of `discovery.cluster` is not Envoy's admin interface, or cannot be reached.
    DiscoveryCluster,
    /// Envoy has no cluster with the service's name.
    Service,
    /// The cluster's policy does not read the filter's header.
    SteerHeader,
    /// Requests ran on other instances than the filter named.
    ChoiceUnused,
    /// Envoy excludes the filter's stats, so that it cannot count.
    Stats,
    /// The cluster of `companion.cluster` is no companion, or cannot be reached.
    CompanionCluster,
    /// A route hashes another key than the filter.
    HashPolicy,
    /// A route removes a header that the filter writes or reads.
    HeaderRemoved,
    /// The policy that chooses where the filter does not is no ring.
    FallbackPolicy,
    /// Outlier detection is configured, but can eject no instance.
    OutlierDetection,
    /// Envoy does not show the filter the bodies of answers that wait.
    ResponseBody,
    /// Envoy does not show its configuration.
    ConfigDump,
    /// Envoy does not show its runtime, which may override the configuration.
    Runtime,
    /// Envoy does not show the statuses of answers, by which the filter ejects.
    Statuses,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Kind; 14] = [
        Kind::DiscoveryCluster,
        Kind::Service,
        Kind::SteerHeader,
        Kind::ChoiceUnused,
        Kind::Stats,
        Kind::CompanionCluster,
        Kind::HashPolicy,
        Kind::HeaderRemoved,
        Kind::FallbackPolicy,
        Kind::OutlierDetection,
        Kind::ResponseBody,
        Kind::ConfigDump,
        Kind::Runtime,
        Kind::Statuses,
    ];

    /// Its name in stats and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::DiscoveryCluster => "discovery_cluster",
            Kind::Service => "service",
            Kind::SteerHeader => "steer_header",
            Kind::ChoiceUnused => "choice_unused",
            Kind::Stats => "stats",
            Kind::CompanionCluster => "companion_cluster",
            Kind::HashPolicy => "hash_policy",
            Kind::HeaderRemoved => "header_removed",
            Kind::FallbackPolicy => "fallback_policy",
            Kind::OutlierDetection => "outlier_detection",
            Kind::ResponseBody => "response_body",
            Kind::ConfigDump => "config_dump",
            Kind::Runtime => "runtime",
            Kind::Statuses => "statuses",
        }
    }
}

/// A mistake: what the filter saw, and what to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What the filter saw.
    pub seen: String,
    /// What to change.
    pub mend: String,
}

impl Mistake {
    /// A mistake and its fix.
    pub fn new(seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            seen: seen.into(),
            mend: mend.into(),
        }
    }

    /// Reports do not reach a companion through this cluster.
    pub fn no_companion(error: &str, cluster: &str) -> Self {
        let mend = format!(
            "companion.cluster ({cluster}): a cluster whose endpoint is the companion's HTTP address, where \
             `unitring serve` runs"
        );
        Self::new(error, mend)
    }
}

/// Failed reports in a row that count as [`Kind::CompanionCluster`]. Fewer may mean that the companion is restarting.
pub const REPORTS_FAILED_MAX: u32 = 5;

/// The mistakes that are there now.
#[derive(Debug, Default)]
pub struct Wiring {
    /// In order of kind, each kind once.
    found: Vec<Standing>,
}

#[derive(Debug)]
struct Standing {
    kind: Kind,
    mistake: Mistake,
    warn_ms: u64,
    pause_ms: u64,
}

impl Wiring {
    /// Sets the result of a check of one kind; `None` if there is no mistake.
    pub fn set(&mut self, kind: Kind, mistake: Option<Mistake>) {
        let place = self.found.binary_search_by(|known| known.kind.cmp(&kind));
        match (place, mistake) {
            (Ok(at), None) => {
                self.found.remove(at);
            }
            (Ok(at), Some(mistake)) => {
                if let Some(known) = self.found.get_mut(at) {
                    known.mistake = mistake;
                }
            }
            (Err(_), None) => {}
            (Err(at), Some(mistake)) => self.found.insert(
                at,
                Standing {
                    kind,
                    mistake,
                    warn_ms: 0,
                    pause_ms: PAUSE_MS_MIN,
                },
            ),
        }
    }

    /// Whether a mistake of this kind is there.
    pub fn has(&self, kind: Kind) -> bool {
        self.found.iter().any(|known| known.kind == kind)
    }

    /// The lines to log now.
    pub fn warnings(&mut self, now_ms: u64) -> Vec<String> {
        let mut lines = Vec::new();
        for known in &mut self.found {
            let set_back = known.warn_ms > now_ms.saturating_add(known.pause_ms);
            if now_ms < known.warn_ms && !set_back {
                continue;
            }
            known.warn_ms = now_ms.saturating_add(known.pause_ms);
            known.pause_ms = known.pause_ms.saturating_mul(2).min(PAUSE_MS_MAX);
            let Mistake { seen, mend } = &known.mistake;
            let kind = known.kind.as_str();
            lines.push(format!("wired wrongly: {kind}: {seen}; mend: {mend}"));
        }
        lines
    }

    /// The mistakes in the form of a report.
    pub fn findings(&self) -> Vec<Finding> {
        let finding = |known: &Standing| Finding {
            kind: known.kind.as_str().to_owned(),
            seen: known.mistake.seen.clone(),
            mend: known.mistake.mend.clone(),
        };
        self.found.iter().map(finding).collect()
    }
}

/// Checks that the cluster's policy reads the filter's header, and that its fallback policy is a
/// ring.
pub fn check_policy(settings: &Settings, cluster: &Cluster) -> [(Kind, Option<Mistake>); 2] {
    let (header, service) = (&settings.steer.header, &settings.service);
    let mend = format!(
        "in the cluster {service}: load_balancing_policy: override_host with override_host_sources: \
         [{{ header: {header} }}]"
    );
    let steer = match &cluster.policy.steer_headers {
        None => Some("the cluster's policy is not override_host".to_owned()),
        Some(headers) if headers.contains(header) => None,
        Some(headers) => Some(format!("override_host reads {}", or_nothing(headers))),
    };
    let is_ring = cluster.policy.fallback != Fallback::Other || steer.is_some();
    let fallback = (!is_ring).then(|| {
        Mistake::new(
            "the fallback_policy of override_host is neither ring_hash nor maglev",
            format!("in the cluster {service}: fallback_policy: ring_hash or maglev"),
        )
    });
    [
        (
            Kind::SteerHeader,
            steer.map(|seen| Mistake::new(seen, mend)),
        ),
        (Kind::FallbackPolicy, fallback),
    ]
}

fn or_nothing(headers: &[String]) -> String {
    if headers.is_empty() {
        return "no header".to_owned();
    }
    headers.join(", ")
}

/// Checks that the filter sees Envoy's runtime, if that may override the configuration.
pub fn check_runtime(settings: &Settings, hides_runtime: bool) -> Option<Mistake> {
    (hides_runtime && settings.health.panic_threshold.is_none()).then(|| {
        Mistake::new(
            "the filter does not see Envoy's runtime (it is hidden, or longer than 1 MiB), which may set the panic \
             threshold: where that decides, all is left to Envoy's own policy",
            "admin: { allow_paths: [{ exact: /runtime }, …] }, or health.panic_threshold",
        )
    })
}

/// Checks that the filter sees the statuses of answers, where it ejects by them.
pub fn check_statuses(
    settings: &Settings,
    hidden: Option<Hidden>,
    may_be_routed_to: bool,
) -> Option<Mistake> {
    let service = &settings.service;
    let (seen, mend) = match hidden.filter(|_| settings.ejection.is_some())? {
        Hidden::Refused => (
            "Envoy does not show its stats".to_owned(),
            "admin: { allow_paths: [{ prefix: /stats }, …] }".to_owned(),
        ),
        Hidden::NotKept if !may_be_routed_to => return None,
        Hidden::NotKept => (
            format!("Envoy does not count the answers of {service} by their status"),
            format!(
                "stats_config.stats_matcher: keep cluster.{service}.upstream_rq_…, and do not set dynamic_stats: \
                 false of the router; if an aggregate cluster leads here, only outlier_detection tells them apart"
            ),
        ),
        Hidden::RetriesNotKept => (
            format!(
                "Envoy does not count the answers of {service} that it retried by their status"
            ),
            format!("stats_config.stats_matcher: keep cluster.{service}.retry.upstream_rq_…"),
        ),
    };
    Some(Mistake::new(
        format!(
            "{seen}: whether a 503 ejects depends on what the routes retry, and a 500 may eject, too"
        ),
        mend,
    ))
}

/// Checks that outlier detection can eject an instance among so many hosts.
pub fn check_outlier_detection(
    settings: &Settings,
    cluster: &Cluster,
    runtime: Runtime,
    hosts: usize,
) -> Option<Mistake> {
    let percent = cluster.outlier_ejection_percent?;
    let percent = runtime.max_ejection_percent.unwrap_or(percent);
    let percent = usize::try_from(percent).unwrap_or(100);
    let can = cluster.always_ejects_one || hosts == 0 || 100 <= hosts * percent;
    (!can).then(|| {
        Mistake::new(
            format!("max_ejection_percent {percent} of {hosts} hosts ejects no host"),
            format!(
                "in the cluster {}: outlier_detection: {{ always_eject_one_host: true }}, or a greater \
                 max_ejection_percent",
                settings.service
            ),
        )
    })
}

/// Checks that no route to the cluster removes the header by which the filter steers, which Envoy reads again for each
/// retry, or the one by which answers announce data updates.
pub fn check_headers(settings: &Settings, routes: &[Route]) -> Option<Mistake> {
    let removing = |of: fn(&Route) -> &[String], header: &str| {
        let mut routes = routes.iter();
        let found = routes.find(|route| of(route).iter().any(|removed| removed == header));
        found.map(|route| {
            format!(
                "a route of virtual host {} removes {header}",
                route.virtual_host
            )
        })
    };
    let steer = settings.steer.header.as_str();
    if let Some(seen) = removing(|route| &route.removes_from_requests, steer) {
        return Some(Mistake::new(
            format!(
                "{seen} from requests, so each retry goes to the instance that has just failed"
            ),
            format!("no {steer} in request_headers_to_remove of the route and of what contains it"),
        ));
    }
    if settings.capture.mode == CaptureMode::Off {
        return None;
    }
    let seen = removing(|route| &route.removes_from_answers, capture::HEADER)?;
    Some(Mistake::new(
        format!(
            "{seen} from answers before the filter sees it, so no data update is counted or handed over"
        ),
        format!(
            "no {} in response_headers_to_remove of the route and of what contains it: the filter takes the header away",
            capture::HEADER
        ),
    ))
}

/// Samples of where requests ran, by two counters since the start: all samples, and samples that
/// ran on an instance that the filter had not named.
#[derive(Debug, Default)]
pub struct Samples {
    seen: (u64, u64),
}

impl Samples {
    /// Fewer new samples than this prove nothing.
    const ENOUGH: u64 = 4;

    /// Looks at the counters; `None` while there are too few new samples.
    pub fn look(&mut self, all: u64, elsewhere: u64) -> Option<Option<Mistake>> {
        let (all_before, elsewhere_before) = self.seen;
        let new = all.saturating_sub(all_before);
        if new < Self::ENOUGH {
            return None;
        }
        self.seen = (all, elsewhere);
        let unused = elsewhere.saturating_sub(elsewhere_before);
        let mistake = (unused * 2 > new).then(|| {
            Mistake::new(
                format!("{unused} of {new} sampled requests ran on an instance that the filter did not choose"),
                "let nothing after the filter change the route's cluster or remove its header, and let the \
                 cluster's override_host read it",
            )
        });
        Some(mistake)
    }
}

#[cfg(test)]
mod tests;
