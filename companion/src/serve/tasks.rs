//! The tasks of a companion beside its requests, each a future over one [`Node`]. None of them ends before the process
//! is to stop.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::node::Node;
use crate::door::listener::Listener;
use crate::group::status::Status as GroupStatus;
use crate::leadership::{self, Role};
use crate::registry::Registry;
use crate::sync::{Driver, Gathering, Parts, Status};
use crate::{group, registry_feed, xds};

impl Node {
    /// Asks for the lease of the unit's leader; drops `done` once it is released at the end.
    pub(super) fn lead(
        &self,
        role: watch::Sender<Role>,
        done: oneshot::Sender<()>,
    ) -> impl Future<Output = ()> + use<> {
        leadership::run(
            Arc::clone(&self.store) as _,
            self.process.clone(),
            role,
            Arc::clone(&self.metrics),
            self.stopping.clone(),
            done,
        )
    }

    /// Reads the registry for those that follow it, and removes what has expired.
    pub(super) fn feed_registry(
        &self,
        registry: watch::Sender<Option<Arc<Registry>>>,
    ) -> impl Future<Output = ()> + use<> {
        registry_feed::run(
            Arc::clone(&self.store),
            Arc::clone(&self.registry_changed),
            registry,
            Arc::clone(&self.metrics),
            self.role.clone(),
            Arc::clone(&self.strain),
        )
    }

    /// Reads the changes of records for their watchers.
    pub(super) fn follow_changes(&self) -> impl Future<Output = ()> + use<> {
        let (store, unit) = (Arc::clone(&self.store), self.settings.unit.clone());
        self.follower.clone().run(store as _, unit)
    }

    /// Frees expired records.
    pub(super) fn sweep(&self) -> impl Future<Output = ()> + use<> {
        let store = Arc::clone(&self.store);
        super::sweep::sweep(store as _, self.role.clone(), Arc::clone(&self.metrics))
    }

    /// Syncs with the other units; nothing if the unit is alone.
    pub(super) fn sync(
        &self,
        status: Option<watch::Sender<Status>>,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let (settings, (handle, access)) = (self.settings.sync.as_ref()?, self.sync.as_ref()?);
        let parts = Parts {
            store: Arc::clone(&self.store),
            events_changed: Arc::clone(&self.events_changed),
            fixed: Gathering::default(),
            metrics: Arc::clone(&self.metrics),
        };
        let driver = Driver::new(
            self.settings.unit.clone(),
            settings.clone(),
            access.clone(),
            parts,
            (handle.clone(), status?),
            self.role.clone(),
        );
        Some(driver.run())
    }

    /// Observes the unit's servers; nothing if the settings name none.
    pub(super) fn watch_group(
        &self,
        seen: watch::Sender<Option<GroupStatus>>,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let settings = self.group_settings.clone()?;
        Some(group::watch::run(
            settings,
            self.settings.unit.clone(),
            Arc::clone(&self.metrics),
            (self.role.clone(), Arc::clone(&self.store) as _),
            seen,
        ))
    }

    /// Tells Envoys the endpoints of their clusters.
    pub(super) fn discover(&self, listener: Listener) -> impl Future<Output = ()> + use<> {
        let discovery = xds::serve(
            listener,
            self.registry.clone(),
            self.rules.clone(),
            self.stopping.clone(),
            Arc::clone(&self.metrics),
        );
        async {
            if let Err(error) = discovery.await {
                tracing::error!(%error, "endpoint discovery ended");
            }
        }
    }
}
