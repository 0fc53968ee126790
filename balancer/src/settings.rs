//! The filter's JSON → valid settings, or one error that names path, value and rule.
//!
//! Every field is read, and an unknown one is refused: a setting that is silently ignored is a trap.

mod capture;
mod discovery;
mod encoding;
mod health;
mod key;
mod load;
mod names;
mod policy;
mod protobuf;
mod reader;
mod ring;
mod services;

#[cfg(test)]
mod tests;

use std::time::Duration;

use unitring_protocol::ids::ServiceName;
use unitring_routing::bounded::CANDIDATES_MAX;
use unitring_routing::table::Rule;

use crate::exported::Prefix;
use crate::json::Json;
pub use capture::{Capture, CaptureMode};
pub use discovery::{Discovery, INSTANCES_MAX, Source};
pub use health::{Ejection, Health, SlowStart};
pub use key::{KeyFrom, KeySource};
pub use load::{Load, Scope};
use reader::Section;
pub use reader::SettingsError;
pub use ring::{Algorithm, Ring};
pub use services::{SERVICES_MAX, Services};

/// Valid settings of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The Envoy cluster whose instances are chosen.
    pub service: ServiceName,
    /// Where the hash key comes from, in order; at least one.
    pub key: Vec<KeySource>,
    /// The part of its stats' names that stands for the service.
    pub stat_name: String,
    /// The prefix of its exported stats.
    pub exported: Prefix,
    /// How instances are placed, as far as the settings say.
    pub ring: Ring,
    /// How health affects placement, as far as the settings say.
    pub health: Health,
    /// The rule from `ring` and `health`, with Envoy's defaults for the rest.
    pub rule: Rule,
    /// How many requests an instance may have in flight.
    pub load: Load,
    /// When an instance is ejected for its failures; `None` for never.
    pub ejection: Option<Ejection>,
    /// How a new or recovered instance warms up; `None` for full weight at once.
    pub slow_start: Option<SlowStart>,
    /// Where instances come from.
    pub discovery: Discovery,
    /// The companion that reports go to; `None` for no reports.
    pub companion: Option<Companion>,
    /// How the filter tells Envoy its choice.
    pub steer: Steer,
    /// How data updates are captured.
    pub capture: Capture,
    /// Whether the caller gets the allocation in response headers.
    pub explain: bool,
    /// Whether Envoy's access log gets the choice, as filter state.
    pub access_log: bool,
}

/// The companion, and how often the filter reports to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Companion {
    /// The Envoy cluster of the companion.
    pub cluster: String,
    /// Time between two reports.
    pub interval: Duration,
    /// How long the companion may take to answer.
    pub timeout: Duration,
    /// Sent as a bearer token unless empty.
    pub token: String,
}

/// How the filter tells Envoy its choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steer {
    /// The request header that the cluster's `override_host` policy reads.
    pub header: String,
    /// How many candidates the header names: one for the first attempt, the others for retries.
    pub candidates: usize,
    /// Whether Envoy writes the number of attempts into each answer, where it is cheaper to read.
    pub attempts_in_response: bool,
}

impl Settings {
    /// Reads one service from a section.
    fn read(root: &mut Section) -> Result<Self, SettingsError> {
        let companion = companion(root.section("companion")?)?;
        let interval = companion.as_ref().map(|companion| companion.interval);
        let service = service(root)?;
        let stat_name = names::stat_name(root, &service)?;
        let ring = ring::read(root.section("ring")?)?;
        let health = health::health(root.section("health")?)?;
        let settings = Self {
            stat_name,
            exported: Prefix::new(&service),
            service,
            key: key::read(root)?,
            rule: ring.rule(&health),
            ring,
            health,
            load: load::read(root.section("load")?, interval)?,
            ejection: health::ejection(root.section("ejection")?)?,
            slow_start: health::slow_start(root.section("slow_start")?)?,
            discovery: discovery::read(root.section("discovery")?, companion.is_some())?,
            steer: steer(root.section("steer")?)?,
            capture: capture::read(root.section("capture")?, companion.is_some())?,
            companion,
            explain: root.boolean("explain", false),
            access_log: root.boolean("access_log", false),
        };
        let steer = &settings.steer.header;
        let is_steer = |source: &KeySource| source.from == KeyFrom::Header(steer.clone());
        if settings.key.iter().any(is_steer) {
            let value = Json::Text(steer.clone());
            let rule = "must not be a source of the key: the filter removes this header from client requests";
            return Err(root.error("steer.header", &value, rule));
        }
        Ok(settings)
    }

    /// Whether calls, failures and in-flight requests come from Envoy's own counts of each host.
    /// Otherwise the filter counts the answers that it sees.
    pub fn counts_by_envoy(&self) -> bool {
        matches!(self.discovery.source, Source::Admin { .. })
    }

    /// Whether the filter needs anything from every answer, but for a header that few have.
    pub fn reads_answers(&self) -> bool {
        self.explain || !self.counts_by_envoy()
    }

    /// The settings of a test that has one service.
    #[cfg(test)]
    pub(crate) fn of(json: &str) -> Self {
        Services::parse(json.as_bytes()).unwrap().all.remove(0)
    }
}

fn service(root: &mut Section) -> Result<ServiceName, SettingsError> {
    let value = root.take("service").unwrap_or(Json::Null);
    let rule = match &value {
        Json::Text(name) => match name.parse::<ServiceName>() {
            Ok(name) => return Ok(name),
            Err(error) => error.rule,
        },
        _ => "is required: the name of a cluster",
    };
    Err(root.error("service", &value, rule))
}

/// Bounds of the filter's intervals: a shorter one burns worker time, a longer one detects nothing
/// in time.
pub(crate) const INTERVAL_MIN: Duration = Duration::from_millis(50);
pub(crate) const INTERVAL_MAX: Duration = Duration::from_secs(600);

fn companion(mut section: Section) -> Result<Option<Companion>, SettingsError> {
    let second = Duration::from_secs(1);
    let companion = Companion {
        cluster: section.string("cluster", "unitring"),
        interval: section.duration("interval", second, INTERVAL_MIN..=INTERVAL_MAX),
        timeout: section.duration("timeout", 2 * second, INTERVAL_MIN..=INTERVAL_MAX),
        token: section.string("token", ""),
    };
    if !companion.token.bytes().all(|b| b.is_ascii_graphic()) {
        let value = Json::Text("…".to_owned());
        let rule = "must be visible ASCII characters";
        return Err(section.error("token", &value, rule));
    }
    section.finish()?;
    Ok(Some(companion).filter(|companion| !companion.cluster.is_empty()))
}

fn steer(mut section: Section) -> Result<Steer, SettingsError> {
    let header = section.string("header", "x-unitring-host");
    if !key::is_header_name(&header) {
        let value = Json::Text(header);
        return Err(section.error("header", &value, key::HEADER_NAME_RULE));
    }
    let most = u64::try_from(CANDIDATES_MAX).unwrap_or(u64::MAX);
    let candidates = section.integer("candidates", 3, 1..=most);
    let attempts_in_response = section.boolean("attempts_in_response", false);
    section.finish()?;
    let candidates = usize::try_from(candidates).unwrap_or(CANDIDATES_MAX);
    Ok(Steer {
        header: header.to_ascii_lowercase(),
        candidates,
        attempts_in_response,
    })
}
