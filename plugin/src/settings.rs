//! The filter's JSON → valid settings, or one error that names path, value and rule.
//!
//! Every field of the design is known here. What has no meaning yet is refused with "is not
//! supported yet": a setting that is silently ignored is a trap.

mod discovery;
mod encoding;
mod health;
mod key;
mod load;
mod names;
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

use crate::json::Json;
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
    /// What its stats are called by.
    pub stat_name: String,
    /// How instances are placed, as far as it is set here.
    pub ring: Ring,
    /// How health decides, as far as it is set here.
    pub health: Health,
    /// Both, with Envoy's defaults for the rest.
    pub rule: Rule,
    /// How much an instance may take.
    pub load: Load,
    /// When an instance is ejected for what it answers; `None` for never.
    pub ejection: Option<Ejection>,
    /// How an instance comes, and comes back; `None` for at once.
    pub slow_start: Option<SlowStart>,
    /// Where instances come from.
    pub discovery: Discovery,
    /// Where reports go; `None` if nowhere.
    pub companion: Option<Companion>,
    /// How Envoy learns the choice.
    pub steer: Steer,
    /// Whether data updates are counted.
    pub counts_updates: bool,
    /// Whether the caller sees the allocation in response headers.
    pub explain: bool,
}

/// Where reports go, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Companion {
    /// The Envoy cluster of the companion.
    pub cluster: String,
    /// From one report to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Sent as a bearer token unless empty.
    pub token: String,
}

/// How Envoy learns the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steer {
    /// The request header that the cluster's `override_host` policy reads.
    pub header: String,
    /// How many candidates it names: the first attempt and the retries.
    pub candidates: usize,
    /// Whether Envoy writes the number of attempts into each answer, which is cheaper to read there.
    pub attempts_in_response: bool,
}

impl Settings {
    /// Takes what makes one service out of a section.
    fn read(root: &mut Section) -> Result<Self, SettingsError> {
        let companion = companion(root.section("companion")?)?;
        let interval = companion.as_ref().map(|companion| companion.interval);
        let service = service(root)?;
        let ring = ring::read(root.section("ring")?)?;
        let health = health::health(root.section("health")?)?;
        let settings = Self {
            stat_name: names::stat_name(root, &service)?,
            service,
            key: key::read(root)?,
            rule: ring.rule(&health),
            ring,
            health,
            load: load::read(root.section("load")?, interval)?,
            ejection: health::ejection(root.section("ejection")?)?,
            slow_start: health::slow_start(root.section("slow_start")?)?,
            discovery: discovery::read(root.section("discovery")?, companion.is_some())?,
            companion,
            steer: steer(root.section("steer")?)?,
            counts_updates: capture(root.section("capture")?)?,
            explain: root.boolean("explain", false),
        };
        let steer = &settings.steer.header;
        let is_steer = |source: &KeySource| source.from == KeyFrom::Header(steer.clone());
        if settings.key.iter().any(is_steer) {
            let value = Json::Text(steer.clone());
            let rule =
                "must not be a header of the key: the filter removes what a client sends in it";
            return Err(root.error("steer.header", &value, rule));
        }
        Ok(settings)
    }

    /// Whether calls, failures and what is in flight come from Envoy's own counts of each host. Otherwise
    /// the filter counts by what it sees of each answer.
    pub fn counts_by_envoy(&self) -> bool {
        matches!(self.discovery.source, Source::Admin { .. })
    }

    /// Whether an answer tells the filter anything that it needs.
    pub fn reads_answers(&self) -> bool {
        self.explain || self.counts_updates || !self.counts_by_envoy()
    }

    /// The settings of a test, which are those of one service.
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

/// Every interval of the filter is kept between these: faster burns workers, slower is no detection.
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

/// Whether data updates are counted. What is not captured yet is refused; its bounds are checked all the
/// same.
fn capture(mut section: Section) -> Result<bool, SettingsError> {
    let modes = [("off", false), ("count", true)];
    let counts = section.word("mode", false, &modes, &["async", "sync"]);
    section.integer("body_bytes_max", 65_536, 0..=16_777_216);
    section.integer("queue_max", 4096, 1..=1_048_576);
    section.finish()?;
    Ok(counts)
}
