//! What the tasks of a companion share, and the ends by which one of them tells the others.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::ServeError;
use crate::changefeed::Follower;
use crate::clock::now_ms;
use crate::config::{GroupSettings, Settings};
use crate::door::budget::{Budget, EVENT_STREAMS_MAX};
use crate::door::kept::Kept;
use crate::door::listener::{Certificates, Listener};
use crate::door::strain::Strain;
use crate::door::{InForce, Rules};
use crate::http::{
    ANSWERS_BYTES_MAX, App, BODIES_BYTES_MAX, Group, Heavy, Overview, Paces, RefusedUpdates, Room,
    Sizes, Wiring,
};
use crate::leadership::Role;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::store::Store;
use crate::sync::links::amqp;
use crate::sync::{Handle, Status};

/// One companion.
pub(super) struct Node {
    pub(super) settings: Settings,
    /// The name of this process among those of its unit.
    pub(super) process: String,
    pub(super) store: Arc<dyn Store>,
    pub(super) metrics: Arc<Metrics>,
    /// Whether requests were refused lately.
    pub(super) strain: Arc<Strain>,
    /// The credentials with their roles, and the companion's names.
    pub(super) rules: InForce,
    /// The role of this companion in its unit.
    pub(super) role: watch::Receiver<Role>,
    /// The registry that was read last; `None` before the first.
    pub(super) registry: watch::Receiver<Option<Arc<Registry>>>,
    pub(super) registry_changed: Arc<Notify>,
    pub(super) events_changed: Arc<Notify>,
    /// The source of changes for the watchers of records.
    pub(super) follower: Follower,
    /// Sync with the other units, and how to get into brokers; `None` if the unit is alone.
    pub(super) sync: Option<(Handle, amqp::Access)>,
    /// The last observed state of the unit's servers.
    pub(super) group: watch::Receiver<Option<crate::group::status::Status>>,
    /// These servers and the logins there; `None` if the settings name none.
    pub(super) group_settings: Option<watch::Receiver<GroupSettings>>,
    /// True once the process is to stop.
    pub(super) stopping: watch::Receiver<bool>,
}

/// The ends at which single tasks tell what [`Node`] shows to all.
pub(super) struct Ends {
    pub(super) role: watch::Sender<Role>,
    pub(super) registry: watch::Sender<Option<Arc<Registry>>>,
    pub(super) sync: Option<watch::Sender<Status>>,
    pub(super) group: watch::Sender<Option<crate::group::status::Status>>,
    pub(super) group_settings: Option<watch::Sender<GroupSettings>>,
    pub(super) stopping: watch::Sender<bool>,
}

impl Node {
    /// A companion with these settings and this store; nothing of it runs yet.
    pub(super) fn new(
        settings: Settings,
        store: Arc<dyn Store>,
        rules: watch::Receiver<Arc<Rules>>,
    ) -> Result<(Self, Ends), ServeError> {
        let (role_sender, role) = watch::channel(Role::Unknown);
        let (registry_sender, registry) = watch::channel(None);
        let (group_sender, group) = watch::channel(None);
        let group_settings = settings.group.clone().map(watch::channel);
        let (group_settings_sender, group_settings) = group_settings.unzip();
        let (stopping_sender, stopping) = watch::channel(false);
        let (sync, status) = match &settings.sync {
            None => (None, None),
            Some(sync) => {
                let access = amqp::Access::read(sync)?;
                let (handle, status) = Handle::new(sync, &access);
                (Some((handle, access)), Some(status))
            }
        };
        let node = Self {
            settings,
            process: name_of_process(),
            store,
            metrics: Arc::default(),
            strain: Arc::default(),
            rules,
            role,
            registry,
            registry_changed: Arc::default(),
            events_changed: Arc::default(),
            follower: Follower::default(),
            sync,
            group,
            group_settings,
            stopping,
        };
        let ends = Ends {
            role: role_sender,
            registry: registry_sender,
            sync: status,
            group: group_sender,
            group_settings: group_settings_sender,
            stopping: stopping_sender,
        };
        Ok((node, ends))
    }

    /// Connections of an address, at most `max` at once.
    pub(super) fn listener(
        &self,
        listener: tokio::net::TcpListener,
        max: usize,
        certificates: Certificates,
    ) -> Listener {
        let (metrics, strain) = (Arc::clone(&self.metrics), Arc::clone(&self.strain));
        Listener::new(listener, max, certificates, metrics, strain)
    }

    /// The parts that requests use.
    pub(super) fn app(self) -> App {
        let seen = self.group;
        App {
            unit: self.settings.unit,
            rules: self.rules,
            store: self.store,
            follower: self.follower,
            overview: Arc::new(Overview::default()),
            wiring: Wiring::default(),
            metrics: self.metrics,
            registry_changed: self.registry_changed,
            events_changed: self.events_changed,
            sync: self.sync.map(|(handle, _)| handle),
            group: self.group_settings.map(|settings| Group { settings, seen }),
            role: self.role,
            stopping: self.stopping,
            budget: Budget::default(),
            bodies: Kept::new(BODIES_BYTES_MAX),
            answers: Kept::new(ANSWERS_BYTES_MAX),
            event_streams: Kept::new(EVENT_STREAMS_MAX),
            reports: Sizes::default(),
            events_room: Room::default(),
            refused_updates: RefusedUpdates::default(),
            paces: Paces::default(),
            heavy: Heavy::default(),
            strain: self.strain,
        }
    }
}

/// A name that no other process has: process ids repeat across machines.
fn name_of_process() -> String {
    let random = std::collections::hash_map::RandomState::new();
    let random = std::hash::BuildHasher::hash_one(&random, now_ms());
    format!("{}-{random:016x}", std::process::id())
}
