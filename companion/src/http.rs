//! Requests → answers. Each kind of resource has a file; this one has the map of paths, and the
//! bounds that hold for all of them.

mod answer;
mod compact;
mod conflicts;
mod data;
mod entry;
mod events;
mod extract;
mod fault;
mod fixed;
mod group;
mod guarded;
mod health;
mod heavy;
mod instances;
mod locate;
mod overview;
mod reports;
pub(crate) mod server;
mod services;
mod traced;
mod ui;
mod units;
mod updates;
mod wiring;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post, put};
use tokio::sync::{Notify, watch};
use unitring_protocol::ids::UnitId;

use crate::changefeed::Follower;
use crate::config::GroupSettings;
use crate::door::InForce;
use crate::door::budget::Budget;
use crate::door::kept::Kept;
use crate::door::strain::Strain;
use crate::group::status::Status;
use crate::leadership::Role;
use crate::log::pace::Pace;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::sync::Handle;

pub(crate) use entry::{ANSWERS_BYTES_MAX, BODIES_BYTES_MAX};
pub(crate) use heavy::Heavy;
pub(crate) use instances::TTLS as INSTANCE_TTLS;
pub(crate) use overview::Overview;
pub(crate) use reports::{Room, Sizes};
pub(crate) use updates::RefusedUpdates;
pub(crate) use wiring::Wiring;

/// The unit's Redis servers.
pub(crate) struct Group {
    /// The servers and their settings.
    pub settings: watch::Receiver<GroupSettings>,
    /// Their last observed state; `None` while another companion watches them.
    pub seen: watch::Receiver<Option<Status>>,
}

/// Lines a second about reports of filters.
const REPORTED_LINES_MAX: u64 = 50;
/// Lines a second about requests that failed.
const FAILURE_LINES_MAX: u64 = 10;

/// The rate limits of log lines that clients cause.
#[derive(Debug)]
pub(crate) struct Paces {
    /// Lines about reports of filters.
    reports: Pace,
    /// Requests that failed.
    failures: Pace,
}

impl Default for Paces {
    fn default() -> Self {
        Self {
            reports: Pace::new(REPORTED_LINES_MAX),
            failures: Pace::new(FAILURE_LINES_MAX),
        }
    }
}

/// The parts of the process that requests use.
pub(crate) struct App {
    pub unit: UnitId,
    /// The credentials with their roles, and the companion's names.
    pub rules: InForce,
    /// The store of this unit.
    pub store: Arc<dyn Store>,
    /// The source of changes for the watchers of records.
    pub follower: Follower,
    /// The fleet as `/metrics` shows it.
    pub overview: Arc<Overview>,
    /// The reporters that are wired wrongly.
    pub wiring: Wiring,
    pub metrics: Arc<Metrics>,
    /// Notified of every change of the registry.
    pub registry_changed: Arc<Notify>,
    /// Notified of every event.
    pub events_changed: Arc<Notify>,
    /// Sync with the other units; `None` if the unit is alone.
    pub sync: Option<Handle>,
    /// The unit's Redis servers; `None` if the settings name none.
    pub group: Option<Group>,
    /// The role of this companion in its unit.
    pub role: watch::Receiver<Role>,
    /// True once the process is to stop; open streams end then.
    pub stopping: watch::Receiver<bool>,
    /// The places among the requests at work.
    pub budget: Budget,
    /// The bytes of bodies that are being read.
    pub bodies: Arc<Kept>,
    /// The bytes of answers that are not read yet.
    pub answers: Arc<Kept>,
    /// The places among the open event streams.
    pub event_streams: Arc<Kept>,
    /// The bytes of the reports that are kept.
    pub reports: Sizes,
    /// The room of reporters in the event log.
    pub events_room: Room,
    /// The data updates that were refused and not logged yet.
    pub refused_updates: RefusedUpdates,
    /// Work that takes a core for a while.
    pub heavy: Heavy,
    /// The rate limits of log lines that clients cause.
    pub paces: Paces,
    /// Whether requests were refused lately.
    pub strain: Arc<Strain>,
}

/// All paths.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/reports", post(reports::take))
        .route("/v1/services", get(services::list))
        .route(
            "/v1/services/{service}",
            get(services::one).delete(services::forget),
        )
        .route("/v1/services/{service}/snapshot", get(services::snapshot))
        .route("/v1/services/{service}/locate", get(locate::locate))
        .route("/v1/services/{service}/instances", get(services::instances))
        .route(
            "/v1/services/{service}/instances/{id}",
            put(instances::put).delete(instances::delete),
        )
        .route(
            "/v1/data/{dataset}",
            get(data::listing::list).post(data::batch::post),
        )
        .route(
            "/v1/data/{dataset}/{*key}",
            put(data::put).get(data::get).delete(data::delete),
        )
        .route("/v1/updates", post(updates::post))
        .route("/v1/events", get(events::events))
        .route("/v1/units", get(units::units))
        .route("/v1/units/{unit}", put(units::add).delete(units::remove))
        .route("/v1/repair", post(units::mend))
        .route("/v1/agree", post(units::agree))
        .route("/v1/compact", post(compact::compact))
        .route("/v1/conflicts", get(conflicts::conflicts))
        .route("/v1/group", get(group::group))
        .route("/v1/fixed", get(fixed::all))
        .route("/v1/fixed/{dataset}/{*key}", get(fixed::value))
        .route("/ui", get(ui::redirect))
        .route("/ui/", get(ui::page))
        .route("/ui/{*path}", get(ui::file))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(entry::not_found)
        .method_not_allowed_fallback(entry::not_allowed)
        // Each body is read, and bounded, before.
        .layer(DefaultBodyLimit::disable())
        // Inside the next layer, so that a refused request is not traced.
        .layer(from_fn(traced::spanned))
        .layer(from_fn_with_state(Arc::clone(&app), entry::enter))
        // Only this route is open to all clients.
        .route("/healthz", get(health::healthz))
        .layer(from_fn_with_state(Arc::clone(&app), traced::traced))
        .with_state(app)
}
