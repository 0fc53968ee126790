//! The main thread's work for a service outside of requests: it places the hosts, counts, reports to the
//! companion, and takes the picture of the fleet from its answers.
//!
//! A desk belongs to a service and lives as long as the process, so that totals go on where Envoy replaces a
//! cluster, and its policy with it.

mod desk;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;
use unitring_balancer::reporter::reporter_id;
use unitring_balancer::settings::Settings;
use unitring_protocol::ids::ReporterId;

use crate::binding::Server;
use crate::clock::epoch_ms;
use crate::policy::locked;
pub(crate) use desk::Desk;

/// The pause before the timer fires first, and the shortest one after that.
pub(crate) const FIRST_MS: u64 = 50;
/// The longest pause, so that a policy that Envoy adds later does not wait for long.
const PAUSE_MS_MAX: u64 = 500;

/// The name of this process in its reports; set by the bootstrap extension.
static REPORTER: OnceLock<ReporterId> = OnceLock::new();

/// The desk of each service, by name.
static DESKS: Mutex<BTreeMap<String, Arc<Mutex<Desk>>>> = Mutex::new(BTreeMap::new());

/// The bootstrap extension is there. Its settings may name the process: `{"node": "edge-1"}`.
///
/// # Errors
/// The line for the log, if the settings break a rule.
pub(crate) fn begin(settings: &[u8]) -> Result<(), String> {
    let node = node(settings)?;
    // A second extension of this module would be the same process.
    REPORTER.get_or_init(|| reporter_id(&node, random()));
    Ok(())
}

fn node(settings: &[u8]) -> Result<String, String> {
    if settings.is_empty() {
        return Ok(host_name());
    }
    let rule = "the bootstrap extension's settings must be an object with no other field than node, a text";
    let Ok(Value::Object(fields)) = serde_json::from_slice(settings) else {
        return Err(rule.to_owned());
    };
    let mut fields = fields.into_iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(host_name()),
        (Some((name, Value::String(node))), None) if name == "node" => Ok(node),
        _ => Err(rule.to_owned()),
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// A number that no other process has.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// Whether this process reports to companions.
pub(crate) fn are_sent() -> bool {
    REPORTER.get().is_some()
}

fn reporter() -> ReporterId {
    // Without the extension nothing is sent, and events are only logged.
    REPORTER
        .get()
        .cloned()
        .unwrap_or_else(|| reporter_id("", 0))
}

/// The desk of a service.
pub(crate) fn desk(settings: &Settings) -> Arc<Mutex<Desk>> {
    let mut desks = locked(&DESKS);
    let desk = desks.entry(settings.service.as_str().to_owned());
    let desk = desk.or_insert_with(|| Arc::new(Mutex::new(Desk::new(settings, reporter()))));
    Arc::clone(desk)
}

/// Runs when the timer fires. Returns the time until the next run.
pub(crate) fn tick(server: &Server<'_>) -> u64 {
    let now_ms = epoch_ms();
    let desks: Vec<_> = locked(&DESKS).values().cloned().collect();
    let pauses = desks.iter().map(|desk| locked(desk).tick(server, now_ms));
    pauses.fold(PAUSE_MS_MAX, u64::min).max(FIRST_MS)
}

/// A request to a companion has ended.
pub(crate) fn on_answer(id: u64, body: Result<Vec<u8>, String>) {
    let now_ms = epoch_ms();
    let desks: Vec<_> = locked(&DESKS).values().cloned().collect();
    for desk in desks {
        let mut desk = locked(&desk);
        if desk.awaits(id) {
            return desk.on_answer(body, now_ms);
        }
    }
}

/// The body of an answer, if its status is 200.
pub(crate) fn body_of(status: &str, body: Vec<u8>) -> Result<Vec<u8>, String> {
    const SHOWN_MAX: usize = 200;
    if status == "200" {
        return Ok(body);
    }
    let body = String::from_utf8_lossy(&body);
    let body: String = body.chars().take(SHOWN_MAX).collect();
    Err(format!("answered {status}: {body}"))
}
