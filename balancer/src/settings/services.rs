//! `services`: one filter for several services; the route's cluster decides which one a request
//! belongs to.
//!
//! Each entry may have any section of a single service. A section that an entry leaves out is taken
//! from beside `services`. All services share one companion, the process's.

use super::reader::{Section, SettingsError};
use super::{Settings, encoding};
use crate::json::Json;

/// The most services of one filter.
pub const SERVICES_MAX: usize = 64;

/// The settings of every service of the filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Services {
    /// One or more services.
    pub all: Vec<Settings>,
    /// Whether the route's cluster decides which service a request belongs to, if any. Otherwise
    /// there is one service, and every request belongs to it.
    pub by_route: bool,
}

impl Services {
    /// Reads the filter's configuration, as JSON or as a `google.protobuf.Struct`.
    ///
    /// # Errors
    /// [`SettingsError`] for the first field that breaks a rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, SettingsError> {
        let mut root = Section::new("", encoding::read(bytes)?)?;
        let Some(entries) = root.list("services")? else {
            let all = vec![filter(&mut root)?];
            root.finish()?;
            return Ok(Self {
                all,
                by_route: false,
            });
        };
        root.refuse(&["service"], "must be absent if services is set")?;
        if entries.is_empty() || entries.len() > SERVICES_MAX {
            let value = Json::from(entries.len());
            let rule = format!("must have 1 to {SERVICES_MAX} entries");
            return Err(root.error("services", &value, rule));
        }
        let mut all: Vec<Settings> = Vec::with_capacity(entries.len());
        for mut entry in entries {
            entry.refuse(
                &["companion", "services"],
                "must be set beside services, since all services share it",
            )?;
            let mut section = entry.over(&root);
            let settings = filter(&mut section)?;
            if all.iter().any(|other| other.service == settings.service) {
                let value = Json::Text(settings.service.to_string());
                let rule = "must not be in two entries";
                return Err(section.error("service", &value, rule));
            }
            root.knows(&section);
            section.finish()?;
            all.push(settings);
        }
        root.finish_shared()?;
        Ok(Self {
            all,
            by_route: true,
        })
    }
}

fn filter(section: &mut Section) -> Result<Settings, SettingsError> {
    let settings = Settings::read(section)?;
    if let Some(counts) = settings.ring.locality_weights {
        let rule = "is for the native module: the filter follows the cluster's own policy";
        return Err(section.error("ring.locality_weights", &Json::Flag(counts), rule));
    }
    Ok(settings)
}
