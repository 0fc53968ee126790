//! [`Fleet`] in Redis, shared by the companions of a unit.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use redis::AsyncCommands as _;
use sha1::{Digest as _, Sha1};
use unitring_protocol::ids::{InstanceId, ReporterId, ServiceName};
use unitring_protocol::report::EventKind;
use unitring_protocol::snapshot::ServiceSnapshot;

use super::event_log::{limits, tell};
use super::pictures::lock;
use super::{Redis, corrupt, decode, encode};
use crate::events::{Cursor, Entry, Event};
use crate::loads::wiring::Miswired;
use crate::loads::{LoadReport, StoredLoad, Totals, advance, may_replace, standing};
use crate::registry::{Registered, Registration, Registry};
use crate::store::names::{split, within};
use crate::store::{
    EVENTS_BYTES_MAX, Fleet, LogSize, Logged, REGISTERED_MAX, REPORTERS_MAX, StoreError, Taken,
};

/// Tries for a report while another companion takes one of the same reporter.
const TRIES_MAX: usize = 8;
/// Most instances or reporters that one look removes; the next look continues.
pub(super) const EXPIRED_MAX: isize = 500;

/// Numbers of reports begin at the current time. No unit takes more reports per millisecond, so
/// numbers that begin after a loss are larger than those before it.
const NUMBERS_PER_MS: u64 = 1_000;

/// The fields of an instance's counters that grew, and by how much.
fn grown(id: &InstanceId, growth: Totals) -> impl Iterator<Item = (String, i64)> {
    let counters = growth.named().into_iter();
    let grown = counters.filter(|(_, growth)| *growth > 0);
    grown.map(move |(counter, growth)| {
        let growth = i64::try_from(growth).unwrap_or(i64::MAX);
        (format!("{id} {counter}"), growth)
    })
}

/// The revision that a text says; a text that no unitring wrote is none, and the next change of the registry starts
/// at the first again.
fn revision_of(text: Option<String>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Redis {
    pub(super) async fn remove(
        &self,
        (service, id): (&ServiceName, &InstanceId),
        expired_by: Option<u64>,
        reason: &str,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let mut connection = self.connection().await?;
        let event = Event::registry(EventKind::Removed, service, id, reason, now_ms);
        let mut call = self.scripts.remove.prepare_invoke();
        call.key(self.keys.registry())
            .key(self.keys.expiry())
            .key(self.keys.revision())
            .key(self.keys.events())
            .key(self.keys.events_index())
            .key(self.keys.events_latest(service, id))
            .arg(within(service, id))
            .arg(expired_by.map_or_else(String::new, |ms| ms.to_string()))
            .arg(limits())
            .arg(EVENTS_BYTES_MAX);
        tell(&mut call, &event)?;
        let removed: u8 = call.invoke_async(&mut connection).await?;
        Ok(removed == 1)
    }
}

#[async_trait]
impl Fleet for Redis {
    async fn take(&self, report: &LoadReport, room: u64, now_ms: u64) -> Result<Taken, StoreError> {
        let mut connection = self.connection().await?;
        let (service, owner) = (&report.service, &report.owner);
        let loads = self.keys.loads(service);
        let reporter = report.reporter.as_str();
        let mut displaced = 0;
        for _ in 0..TRIES_MAX {
            let text: Option<String> = connection.hget(&loads, reporter).await?;
            // What no unitring wrote is replaced.
            let last = text.as_deref().map(decode::<StoredLoad>);
            let last = last.and_then(|last| self.spoiled.keep(reporter, last));
            if !may_replace(last.as_ref(), owner, now_ms) {
                return Err(StoreError::NotYours(report.reporter.clone()));
            }
            let Some(step) = advance(last.as_ref(), report, now_ms) else {
                return Ok(Taken {
                    events_through: last.map_or(0, |last| last.events_through),
                    old: true,
                    ..Taken::default()
                });
            };
            let hex = |text: &String| {
                let hash = Sha1::digest(text.as_bytes());
                hash.iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<String>()
            };
            let growth = step.growth.iter();
            let grown: Vec<_> = growth.flat_map(|(id, growth)| grown(id, *growth)).collect();
            let mut call = self.scripts.take.prepare_invoke();
            call.key(&loads)
                .key(self.keys.totals(service))
                .key(self.keys.reporters())
                .key(self.keys.events())
                .key(self.keys.loads_changes(service))
                .key(self.keys.standing())
                .key(self.keys.events_index());
            for event in &step.events {
                call.key(self.keys.events_latest(&event.service, &event.instance));
            }
            call.arg(reporter)
                .arg(text.as_ref().map_or_else(String::new, hex))
                .arg(encode(&step.next)?)
                .arg(within(service, reporter))
                .arg(step.next.remembered_until_ms)
                .arg(REPORTERS_MAX)
                .arg(limits())
                .arg(step.next.remembered_until_ms.saturating_sub(now_ms))
                .arg(now_ms.saturating_mul(NUMBERS_PER_MS))
                .arg(standing(owner, now_ms))
                .arg(room)
                .arg(grown.len());
            for (field, growth) in &grown {
                call.arg(field).arg(growth);
            }
            for event in &step.events {
                tell(&mut call, event)?;
            }
            let done = call.invoke_async(&mut connection).await;
            let keys = self.keys.of_service_and_unit(service);
            let done = self.named(keys, done.map_err(StoreError::from));
            let done: (String, u64, u64, u64, u64) = done.await?;
            let (done, stored, bytes, counted, left_out) = done;
            let number: u64 = match done.as_str() {
                "changed" => continue,
                "full" if self.make_room(owner, now_ms).await? => {
                    displaced += 1;
                    continue;
                }
                "full" => {
                    return Err(StoreError::TooMany {
                        what: "reporters",
                        max: REPORTERS_MAX,
                    });
                }
                number => number.parse().map_err(|_| corrupt(number))?,
            };
            lock(&self.pictures.of(service, now_ms)).put(&step.next, number);
            return Ok(Taken {
                events_through: step.next.events_through,
                growth: step.growth,
                old: false,
                events: step.events,
                logged: Logged {
                    stored,
                    bytes,
                    counted,
                    left_out,
                },
                wiring: step.wiring,
                cut: step.cut,
                displaced,
            });
        }
        Err(StoreError::Contended("a reporter's load"))
    }

    async fn loads(
        &self,
        service: &ServiceName,
        now_ms: u64,
    ) -> Result<Vec<StoredLoad>, StoreError> {
        let mut loads = self.remembered(service).await?;
        loads.retain(|load| load.is_alive(now_ms));
        loads.sort_by(|a, b| a.reporter.cmp(&b.reporter));
        Ok(loads)
    }

    async fn rest(
        &self,
        service: &ServiceName,
        reporter: &ReporterId,
        now_ms: u64,
    ) -> Result<ServiceSnapshot, StoreError> {
        let known = self.pictures.of(service, now_ms);
        self.catch_up(service, &known).await?;
        Ok(lock(&known).rest(service, reporter, now_ms))
    }

    async fn miswired(&self, now_ms: u64) -> Result<Vec<Miswired>, StoreError> {
        let mut found = Vec::new();
        for service in self.reported().await? {
            let known = self.pictures.of(&service, now_ms);
            self.catch_up(&service, &known).await?;
            found.extend(lock(&known).miswired(&service, now_ms));
        }
        Ok(found)
    }

    async fn totals(
        &self,
        service: &ServiceName,
    ) -> Result<BTreeMap<InstanceId, Totals>, StoreError> {
        let mut connection = self.connection().await?;
        let fields = connection.hgetall(self.keys.totals(service)).await;
        let keys = self.keys.of_service_and_unit(service);
        let fields = self.named(keys, fields.map_err(StoreError::from));
        let fields: Vec<(String, String)> = fields.await?;
        let mut totals: BTreeMap<InstanceId, Totals> = BTreeMap::new();
        for (field, count) in fields {
            let read = field.split_once(' ').ok_or_else(|| corrupt(&field));
            let read = read.and_then(|(id, counter)| {
                let id: InstanceId = id.parse().map_err(|_| corrupt(&field))?;
                Ok((id, counter))
            });
            let Some((id, counter)) = self.spoiled.keep(&field, read) else {
                continue;
            };
            let count = count.parse().unwrap_or(0);
            totals.entry(id).or_default().set(counter, count);
        }
        Ok(totals)
    }

    async fn reported(&self) -> Result<BTreeSet<ServiceName>, StoreError> {
        let mut connection = self.connection().await?;
        let keys: Vec<String> = connection.zrange(self.keys.reporters(), 0, -1).await?;
        let read = keys.iter().filter_map(|key| {
            let name = format!("{} {key}", self.keys.reporters());
            Some(self.spoiled.keep(&name, split(key))?.0)
        });
        Ok(read.collect())
    }

    async fn forget_service(&self, service: &ServiceName) -> Result<bool, StoreError> {
        self.forget_all_of(service).await
    }

    async fn register(
        &self,
        service: &ServiceName,
        instance: &Registered,
        keeps_draining: bool,
        now_ms: u64,
    ) -> Result<(Registration, Registered), StoreError> {
        let mut connection = self.connection().await?;
        let id = &instance.id;
        let event = Event::registry(EventKind::Added, service, id, "registered", now_ms);
        let with = |draining| Registered {
            draining,
            ..instance.clone()
        };
        let wish = match (keeps_draining, instance.draining) {
            (true, _) => "keep",
            (false, true) => "drain",
            (false, false) => "serve",
        };
        let mut call = self.scripts.register.prepare_invoke();
        call.key(self.keys.registry())
            .key(self.keys.expiry())
            .key(self.keys.revision())
            .key(self.keys.events())
            .key(self.keys.events_index())
            .key(self.keys.events_latest(service, id))
            .arg(within(service, id))
            .arg(encode(&with(false))?)
            .arg(encode(&with(true))?)
            .arg(wish)
            .arg(
                instance
                    .expires_ms
                    .map_or_else(String::new, |ms| ms.to_string()),
            )
            .arg(REGISTERED_MAX)
            .arg(limits())
            .arg(EVENTS_BYTES_MAX);
        tell(&mut call, &event)?;
        tell(&mut call, &Event::draining(true, service, id, now_ms))?;
        tell(&mut call, &Event::draining(false, service, id, now_ms))?;
        let done = call.invoke_async(&mut connection).await;
        let done = self.named(self.keys.of_the_unit(), done.map_err(StoreError::from));
        let (done, draining): (String, u8) = done.await?;
        let done = match done.as_str() {
            "created" => Registration::Created,
            "changed" => Registration::Changed,
            "renewed" => Registration::Renewed,
            _ => {
                return Err(StoreError::TooMany {
                    what: "registered instances",
                    max: REGISTERED_MAX,
                });
            }
        };
        Ok((done, with(draining == 1)))
    }

    async fn unregister(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        self.remove((service, id), None, "unregistered", now_ms)
            .await
    }

    async fn registry(&self) -> Result<Registry, StoreError> {
        let mut connection = self.connection().await?;
        let read = self
            .scripts
            .registry
            .key(self.keys.revision())
            .key(self.keys.registry())
            .invoke_async(&mut connection)
            .await;
        let read = self.named(self.keys.of_the_unit(), read.map_err(StoreError::from));
        let (revision, rows): (Option<String>, Vec<(String, String)>) = read.await?;
        let mut registry = Registry {
            revision: revision_of(revision),
            services: BTreeMap::new(),
        };
        for (key, text) in rows {
            let read = split(&key).and_then(|(service, _)| {
                let instance: Registered = decode(&text)?;
                Ok((service, instance))
            });
            let name = format!("{} {key}", self.keys.registry());
            let Some((service, instance)) = self.spoiled.keep(&name, read) else {
                continue;
            };
            let instances = registry.services.entry(service).or_default();
            instances.insert(instance.id.clone(), instance);
        }
        Ok(registry)
    }

    async fn revision(&self) -> Result<u64, StoreError> {
        let mut connection = self.connection().await?;
        let revision = connection.get(self.keys.revision()).await;
        let revision = self.named(self.keys.of_the_unit(), revision.map_err(StoreError::from));
        Ok(revision_of(revision.await?))
    }

    async fn events(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Entry)>, StoreError> {
        self.read_events(after, limit).await
    }

    /// The entries of a stream have the time of Redis.
    fn cursor_at(&self, at_ms: u64) -> Cursor {
        Cursor(at_ms, 0)
    }

    async fn log_size(&self) -> Result<LogSize, StoreError> {
        self.read_log_size().await
    }
}
