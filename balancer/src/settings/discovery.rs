//! `discovery`: where instances come from.

use std::net::SocketAddr;
use std::time::Duration;

use unitring_protocol::ids::InstanceId;
use unitring_routing::membership::Member;
use unitring_routing::names::Names;

use super::reader::{Section, SettingsError};
use super::{INTERVAL_MAX, INTERVAL_MIN};
use crate::json::Json;

/// The most instances of one service.
pub const INSTANCES_MAX: usize = 16_384;

/// The source of instances, and how often the filter asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// The source.
    pub source: Source,
    /// Time between two looks.
    pub interval: Duration,
}

impl Discovery {
    /// The Envoy cluster that leads to Envoy's admin address; empty if the source is another one.
    pub fn cluster(&self) -> &str {
        match &self.source {
            Source::Admin { cluster } => cluster,
            Source::Static(_) | Source::Companion => "",
        }
    }
}

/// The sources of instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The list in the settings.
    Static(Vec<Member>),
    /// Envoy's own view, through its admin interface.
    Admin {
        /// The Envoy cluster that leads to Envoy's admin address.
        cluster: String,
    },
    /// The companion's registry.
    Companion,
}

/// `has_companion`: whether the settings name a companion, which the source `companion` needs.
pub(super) fn read(mut section: Section, has_companion: bool) -> Result<Discovery, SettingsError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Static,
        Admin,
        Companion,
    }
    let kinds = [
        ("static", Kind::Static),
        ("admin", Kind::Admin),
        ("companion", Kind::Companion),
    ];
    let kind = section.word("source", Kind::Admin, &kinds);
    let cluster = section.string("cluster", "envoy_admin");
    let interval = section.duration(
        "interval",
        Duration::from_secs(1),
        INTERVAL_MIN..=INTERVAL_MAX,
    );
    let instances = instances(&mut section)?;
    let mut refuse =
        |field: &'static str, value: Json, rule: &str| Err(section.error(field, &value, rule));
    let source = match kind {
        Kind::Static if instances.is_empty() => {
            return refuse(
                "instances",
                Json::List(vec![]),
                "must not be empty with source static",
            );
        }
        Kind::Admin | Kind::Companion if !instances.is_empty() => {
            let rule = "must be empty unless source is static";
            return refuse("instances", Json::from(instances.len()), rule);
        }
        Kind::Admin if cluster.is_empty() => {
            return refuse("cluster", Json::Text(cluster), "must name a cluster");
        }
        Kind::Companion if !has_companion => {
            let rule = "needs companion.cluster";
            return refuse("source", Json::from("companion"), rule);
        }
        Kind::Static => Source::Static(instances),
        Kind::Admin => Source::Admin { cluster },
        Kind::Companion => Source::Companion,
    };
    section.finish()?;
    Ok(Discovery { source, interval })
}

fn instances(section: &mut Section) -> Result<Vec<Member>, SettingsError> {
    let sections = section.list("instances")?.unwrap_or_default();
    if sections.len() > INSTANCES_MAX {
        let rule = format!("must have at most {INSTANCES_MAX} instances");
        return Err(section.error("instances", &Json::from(sections.len()), rule));
    }
    let members = sections
        .into_iter()
        .map(instance)
        .collect::<Result<Vec<_>, _>>()?;
    let ids = members.iter().map(|member| member.id.as_str());
    let names = ids.chain(members.iter().filter_map(own_address));
    let names = Names::of(names);
    let twice = names.each().find(|(name, _)| names.is_repeated(name));
    if let Some((name, _)) = twice {
        let value = Json::Text(name.to_owned());
        let rule = "must not name an instance twice";
        return Err(section.error("instances", &value, rule));
    }
    Ok(members)
}

/// The address of an instance whose id differs from it.
fn own_address(member: &Member) -> Option<&str> {
    (member.id != member.address).then_some(&member.address)
}

fn instance(mut section: Section) -> Result<Member, SettingsError> {
    let address = section.string("address", "");
    if address.parse::<SocketAddr>().is_err() {
        let rule = "must be ip:port, as 10.0.0.5:8080";
        return Err(section.error("address", &Json::Text(address), rule));
    }
    let id = section.string("id", &address);
    if let Err(error) = id.parse::<InstanceId>() {
        return Err(section.error("id", &Json::Text(id), error.rule));
    }
    let weight = section.positive_u32("weight", 1);
    section.finish()?;
    Ok(Member {
        weight,
        ..Member::new(&id, &address)
    })
}
