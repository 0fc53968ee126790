//! [`Fleet`] in the file: the transaction of each method.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use redb::{Durability, ReadTransaction, ReadableDatabase as _, ReadableTable as _};
use unitring_protocol::ids::{InstanceId, ReporterId, ServiceName};
use unitring_protocol::snapshot::ServiceSnapshot;

use super::fleet_changes::{all, forget_service, register, remove, take};
use super::tables::{EVENTS, LOADS, NUMBERS, REGISTRY};
use super::{Embedded, away, decode, event_log, off_thread, totals};
use crate::events::{Cursor, Entry};
use crate::loads::picture::Picture;
use crate::loads::wiring::Miswired;
use crate::loads::{LoadReport, StoredLoad, Totals, standing};
use crate::registry::{Registered, Registration, Registry};
use crate::store::{Fleet, LogSize, StoreError, Taken};

/// The reports on a service that still count.
fn alive(
    transaction: &ReadTransaction,
    service: &ServiceName,
    now_ms: u64,
) -> Result<Vec<StoredLoad>, StoreError> {
    let loads = transaction.open_table(LOADS).map_err(away)?;
    let mut alive = Vec::new();
    for row in loads.range((service.as_str(), "")..).map_err(away)? {
        let (key, text) = row.map_err(away)?;
        let (of, _) = key.value();
        if of != service.as_str() {
            break;
        }
        let load: StoredLoad = decode(text.value())?;
        if load.is_alive(now_ms) {
            alive.push(load);
        }
    }
    Ok(alive)
}

/// The services with reports.
fn reported(transaction: &ReadTransaction) -> Result<BTreeSet<ServiceName>, StoreError> {
    let loads = transaction.open_table(LOADS).map_err(away)?;
    let mut services = BTreeSet::new();
    for row in loads.iter().map_err(away)? {
        let (key, _) = row.map_err(away)?;
        let (service, _) = key.value();
        let service = service
            .parse()
            .map_err(|_| StoreError::Corrupt(format!("service {service:?}")))?;
        services.insert(service);
    }
    Ok(services)
}

#[async_trait]
impl Fleet for Embedded {
    async fn take(&self, report: &LoadReport, room: u64, now_ms: u64) -> Result<Taken, StoreError> {
        let report = report.clone();
        // Loads are replaced within a second; events must be durable.
        let durability = if report.events.is_empty() {
            Durability::None
        } else {
            Durability::Immediate
        };
        let store = self.clone();
        off_thread(move || {
            let (taken, next) = store.write_now(durability, |transaction, store| {
                take(transaction, &store.standings, &report, room, now_ms)
            })?;
            // Inside the closure, so that a cancelled caller cannot skip it.
            if let Some(next) = next {
                let standing = standing(&report.owner, now_ms);
                store
                    .standings
                    .put(&report.service, &next.reporter, standing);
                store.pictures.put(&report.service, &next);
            }
            Ok(taken)
        })
        .await
    }

    async fn loads(
        &self,
        service: &ServiceName,
        now_ms: u64,
    ) -> Result<Vec<StoredLoad>, StoreError> {
        let service = service.clone();
        self.look(move |transaction| alive(transaction, &service, now_ms))
            .await
    }

    async fn rest(
        &self,
        service: &ServiceName,
        reporter: &ReporterId,
        now_ms: u64,
    ) -> Result<ServiceSnapshot, StoreError> {
        let (store, service, reporter) = (self.clone(), service.clone(), reporter.clone());
        off_thread(move || {
            let read = || {
                store.with(|database| {
                    let transaction = database.begin_read().map_err(away)?;
                    alive(&transaction, &service, now_ms)
                })
            };
            store.pictures.look(&service, read, |picture| {
                picture.rest(&service, &reporter, now_ms)
            })
        })
        .await
    }

    async fn miswired(&self, now_ms: u64) -> Result<Vec<Miswired>, StoreError> {
        let store = self.clone();
        off_thread(move || {
            let services = store.with(|database| {
                let transaction = database.begin_read().map_err(away)?;
                reported(&transaction)
            })?;
            let mut found = Vec::new();
            for service in services {
                let read = || {
                    store.with(|database| {
                        let transaction = database.begin_read().map_err(away)?;
                        alive(&transaction, &service, now_ms)
                    })
                };
                let miswired = |picture: &mut Picture| picture.miswired(&service, now_ms);
                found.extend(store.pictures.look(&service, read, miswired)?);
            }
            Ok(found)
        })
        .await
    }

    async fn totals(
        &self,
        service: &ServiceName,
    ) -> Result<BTreeMap<InstanceId, Totals>, StoreError> {
        let service = service.clone();
        self.look(move |transaction| totals::read(transaction, &service))
            .await
    }

    async fn reported(&self) -> Result<BTreeSet<ServiceName>, StoreError> {
        self.look(reported).await
    }

    async fn forget_service(&self, service: &ServiceName) -> Result<bool, StoreError> {
        let name = service.clone();
        let was_there = self.change(Durability::Immediate, move |transaction, _| {
            forget_service(transaction, &name)
        });
        let was_there = was_there.await?;
        // Afterwards: before, a look at the picture would read the reports again.
        self.pictures.forget(service);
        Ok(was_there)
    }

    async fn register(
        &self,
        service: &ServiceName,
        instance: &Registered,
        keeps_draining: bool,
        now_ms: u64,
    ) -> Result<(Registration, Registered), StoreError> {
        let (service, instance) = (service.clone(), instance.clone());
        self.change(Durability::Immediate, move |transaction, _| {
            register(transaction, &service, instance, keeps_draining, now_ms)
        })
        .await
    }

    async fn unregister(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let (service, id) = (service.clone(), id.clone());
        self.change(Durability::Immediate, move |transaction, _| {
            remove(transaction, &service, &id, "unregistered", now_ms)
        })
        .await
    }

    async fn registry(&self) -> Result<Registry, StoreError> {
        self.look(|transaction| {
            let numbers = transaction.open_table(NUMBERS).map_err(away)?;
            let revision = numbers.get("revision").map_err(away)?;
            let mut registry = Registry {
                revision: revision.map_or(0, |number| number.value()),
                services: BTreeMap::new(),
            };
            for (service, instance) in all(&transaction.open_table(REGISTRY).map_err(away)?)? {
                let instances = registry.services.entry(service).or_default();
                instances.insert(instance.id.clone(), instance);
            }
            Ok(registry)
        })
        .await
    }

    async fn revision(&self) -> Result<u64, StoreError> {
        self.look(|transaction| {
            let numbers = transaction.open_table(NUMBERS).map_err(away)?;
            let revision = numbers.get("revision").map_err(away)?;
            Ok(revision.map_or(0, |number| number.value()))
        })
        .await
    }

    async fn events(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Entry)>, StoreError> {
        self.look(move |transaction| {
            let log = transaction.open_table(EVENTS).map_err(away)?;
            let mut found = Vec::new();
            let first = match after {
                Some(Cursor(number, _)) => number.saturating_add(1),
                None => {
                    let last = log
                        .last()
                        .map_err(away)?
                        .map_or(0, |(number, _)| number.value());
                    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
                    last.saturating_add(1).saturating_sub(limit)
                }
            };
            for row in log.range(first..).map_err(away)?.take(limit) {
                let (number, text) = row.map_err(away)?;
                found.push((Cursor(number.value(), 0), decode(text.value())?));
            }
            Ok(found)
        })
        .await
    }

    /// The entries have numbers alone.
    fn cursor_at(&self, _at_ms: u64) -> Cursor {
        Cursor(0, 0)
    }

    async fn log_size(&self) -> Result<LogSize, StoreError> {
        self.look(event_log::size).await
    }
}
