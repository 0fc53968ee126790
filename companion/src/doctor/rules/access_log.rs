//! 01xx: what an access log shows of the filter's choice.

use super::super::code::Code;
use super::super::finding::Finding;
use super::super::json::at;
use super::super::managers::Manager;
use super::View;

/// How the filter's keys begin in the filter state of a request.
const KEYS: &str = "wasm.unitring_";

/// Access logs with fields that no filter sets.
pub(super) fn all(view: &View<'_>) -> Vec<Finding> {
    let managers = view.managers.iter().filter(|manager| shows(manager));
    managers.filter_map(unset).collect()
}

fn shows(manager: &Manager<'_>) -> bool {
    at(manager.json, "access_log").is_some_and(|log| log.to_string().contains(KEYS))
}

fn unset(manager: &Manager<'_>) -> Option<Finding> {
    if !manager.unseen_filters.is_empty() {
        return None;
    }
    let mut settings = manager.filters.iter().map(|filter| &filter.settings);
    // Settings that are refused are a finding of their own.
    let may_set = settings.any(|settings| match settings {
        Ok(services) => services.all.iter().any(|service| service.access_log),
        Err(_) => true,
    });
    if may_set {
        return None;
    }
    let (why, mend) = match manager.filters.is_empty() {
        true => (
            "there is no filter of unitring",
            "the access log in the listener where the filter is; the native module sets no such fields",
        ),
        false => (
            "the filter's access_log is not true",
            "access_log: true  # in the filter's settings",
        ),
    };
    let seen = format!("access_log shows {KEYS}…, and {why}");
    Some(Finding::new(Code::LogsNothing, &manager.place, &seen, mend))
}
