//! The names that metrics had before `unitring_companion_…`. They are here for one release, so that dashboards and
//! alerts can move; their help says the new name. Two are gone, since no parser of the format accepted them: see
//! docs/metrics.md.

use std::fmt;

use super::fleet::{self, INSTANCE_FAMILIES};
use super::page::{Kind, Page};
use super::{INSTANCES_SHOWN_MAX, Seen, links};

/// The help of an old name.
pub(super) fn help(new: &str) -> String {
    format!("Deprecated, gone in the next release: use {new}")
}

/// The old names of the metrics that are written for each scrape.
pub(super) fn write(page: &mut Page, seen: &Seen<'_>) -> fmt::Result {
    for family in INSTANCE_FAMILIES.iter().filter(|family| family.is_old) {
        let name = format!("unitring_{}", family.name);
        let new = format!("unitring_companion_{}", family.name);
        page.family(&name, family.kind, &help(&new))?;
        for shown in seen.instances.iter().take(INSTANCES_SHOWN_MAX) {
            let labels = [
                ("service", shown.service.as_str()),
                ("instance", shown.instance.as_str()),
            ];
            if let Some(value) = (family.value)(shown) {
                page.sample(&name, &labels, value)?;
            }
        }
    }
    let new = help("unitring_companion_wiring_findings");
    fleet::wiring(page, "unitring", &new, seen.found)?;
    if let Some(units) = seen.links {
        links::old(page, units, help)?;
    }
    if let Some(ratio) = seen.group_memory_ratio {
        let new = help("unitring_companion_group_memory_ratio");
        let percent = (ratio * 100.0).floor();
        page.single("unitring_group_memory_percent", Kind::Gauge, &new, percent)?;
    }
    Ok(())
}
