//! The changes of registry, loads and events, each inside its caller's transaction.

use std::collections::BTreeSet;

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};
use unitring_protocol::ids::{InstanceId, ServiceName};
use unitring_protocol::report::EventKind;

use super::event_log::append;
use super::standings::{Standing, Standings};
use super::tables::{LOADS, NUMBERS, REGISTRY};
use super::{away, decode, encode, totals};
use crate::events::{Entry, Event};
use crate::loads::{LoadReport, StoredLoad, advance, makes_room_below, may_replace, standing};
use crate::registry::{Registered, Registration};
use crate::store::names::{split, within};
use crate::store::{EVENTS_BYTES_MAX, Logged, REGISTERED_MAX, REPORTERS_MAX, StoreError, Taken};

fn bump_revision(transaction: &WriteTransaction) -> Result<(), StoreError> {
    let mut numbers = transaction.open_table(NUMBERS).map_err(away)?;
    let revision = numbers
        .get("revision")
        .map_err(away)?
        .map_or(0, |number| number.value());
    numbers.insert("revision", revision + 1).map_err(away)?;
    Ok(())
}

/// The standing of each reporter in the file.
fn read_standings(
    loads: &impl ReadableTable<(&'static str, &'static str), &'static str>,
) -> Result<Vec<(Standing, u64)>, StoreError> {
    let mut standings = Vec::new();
    for row in loads.iter().map_err(away)? {
        let (key, text) = row.map_err(away)?;
        let (service, reporter) = key.value();
        let load: StoredLoad = decode(text.value())?;
        let own = load.owner.as_ref();
        let standing = own.map_or(load.taken_ms, |owner| standing(owner, load.taken_ms));
        standings.push(((service.to_owned(), reporter.to_owned()), standing));
    }
    Ok(standings)
}

/// Takes a report; returns the result, and the load to keep if it is new.
pub(super) fn take(
    transaction: &WriteTransaction,
    standings: &Standings,
    report: &LoadReport,
    room: u64,
    now_ms: u64,
) -> Result<(Taken, Option<StoredLoad>), StoreError> {
    let owner = &report.owner;
    let key = (report.service.as_str(), report.reporter.as_str());
    let mut loads = transaction.open_table(LOADS).map_err(away)?;
    let last: Option<StoredLoad> = match loads.get(key).map_err(away)? {
        Some(text) => Some(decode(text.value())?),
        None => None,
    };
    let mut displaced = 0;
    while last.is_none() && loads.len().map_err(away)? >= REPORTERS_MAX {
        let below = makes_room_below(owner, now_ms);
        let lowest = standings.take_lowest(below, || read_standings(&loads))?;
        let Some((service, reporter)) = lowest else {
            return Err(StoreError::TooMany {
                what: "reporters",
                max: REPORTERS_MAX,
            });
        };
        let removed = loads
            .remove((service.as_str(), reporter.as_str()))
            .map_err(away)?;
        displaced += u64::from(removed.is_some());
    }
    if !may_replace(last.as_ref(), owner, now_ms) {
        return Err(StoreError::NotYours(report.reporter.clone()));
    }
    let Some(step) = advance(last.as_ref(), report, now_ms) else {
        let taken = Taken {
            events_through: last.map_or(0, |last| last.events_through),
            old: true,
            ..Taken::default()
        };
        return Ok((taken, None));
    };
    loads
        .insert(key, encode(&step.next)?.as_str())
        .map_err(away)?;
    totals::add(transaction, &report.service, &step.growth)?;
    let mut logged = Logged::default();
    if !step.events.is_empty() {
        let events: Vec<Entry> = step.events.iter().cloned().map(Entry::Instance).collect();
        logged = append(transaction, &events, room)?;
    }
    let taken = Taken {
        events_through: step.next.events_through,
        growth: step.growth,
        old: false,
        events: step.events,
        logged,
        wiring: step.wiring,
        cut: step.cut,
        displaced,
    };
    Ok((taken, Some(step.next)))
}

pub(super) fn register(
    transaction: &WriteTransaction,
    service: &ServiceName,
    mut instance: Registered,
    keeps_draining: bool,
    now_ms: u64,
) -> Result<(Registration, Registered), StoreError> {
    let key = within(service, &instance.id);
    let mut registry = transaction.open_table(REGISTRY).map_err(away)?;
    let before: Option<Registered> = match registry.get(key.as_str()).map_err(away)? {
        Some(text) => Some(decode(text.value())?),
        None => None,
    };
    if before.is_none() && registry.len().map_err(away)? >= REGISTERED_MAX {
        return Err(StoreError::TooMany {
            what: "registered instances",
            max: REGISTERED_MAX,
        });
    }
    let was_draining = before.as_ref().is_some_and(|before| before.draining);
    if keeps_draining {
        instance.draining = was_draining;
    }
    registry
        .insert(key.as_str(), encode(&instance)?.as_str())
        .map_err(away)?;
    let done = match before {
        None => Registration::Created,
        Some(before) if before.differs(&instance) => Registration::Changed,
        Some(_) => return Ok((Registration::Renewed, instance)),
    };
    bump_revision(transaction)?;
    let (id, drains) = (&instance.id, instance.draining);
    let added = Event::registry(EventKind::Added, service, id, "registered", now_ms);
    let drained = Event::draining(drains, service, id, now_ms);
    let events = [
        (done == Registration::Created).then_some(added),
        (drains != was_draining).then_some(drained),
    ];
    let events: Vec<Entry> = events.into_iter().flatten().map(Entry::Instance).collect();
    append(transaction, &events, EVENTS_BYTES_MAX)?;
    Ok((done, instance))
}

pub(super) fn remove(
    transaction: &WriteTransaction,
    service: &ServiceName,
    id: &InstanceId,
    reason: &str,
    now_ms: u64,
) -> Result<bool, StoreError> {
    let mut registry = transaction.open_table(REGISTRY).map_err(away)?;
    let key = within(service, id);
    if registry.remove(key.as_str()).map_err(away)?.is_none() {
        return Ok(false);
    }
    bump_revision(transaction)?;
    let event = Event::registry(EventKind::Removed, service, id, reason, now_ms);
    append(transaction, &[Entry::Instance(event)], EVENTS_BYTES_MAX)?;
    Ok(true)
}

pub(super) fn all(
    rows: &impl ReadableTable<&'static str, &'static str>,
) -> Result<Vec<(ServiceName, Registered)>, StoreError> {
    let mut all = Vec::new();
    for row in rows.iter().map_err(away)? {
        let (key, text) = row.map_err(away)?;
        let (service, _) = split(key.value())?;
        all.push((service, decode(text.value())?));
    }
    Ok(all)
}

pub(super) fn expire(transaction: &WriteTransaction, now_ms: u64) -> Result<u64, StoreError> {
    let registered = all(&transaction.open_table(REGISTRY).map_err(away)?)?;
    let mut expired = 0;
    for (service, instance) in &registered {
        if instance.expires_ms.is_some_and(|at| at <= now_ms) {
            remove(
                transaction,
                service,
                &instance.id,
                "its time to live ran out",
                now_ms,
            )?;
            expired += 1;
        }
    }
    Ok(expired)
}

/// Removes the reports on a service and its counters. Returns whether there were any.
pub(super) fn forget_service(
    transaction: &WriteTransaction,
    service: &ServiceName,
) -> Result<bool, StoreError> {
    let mut was_there = false;
    let mut is_other = |of: &str| {
        let is_other = of != service.as_str();
        was_there |= !is_other;
        is_other
    };
    let mut loads = transaction.open_table(LOADS).map_err(away)?;
    loads.retain(|(of, _), _| is_other(of)).map_err(away)?;
    totals::retain(transaction, |of, _| is_other(of))?;
    Ok(was_there)
}

/// Removes reports that are no longer remembered, and the counters of instances that no report or
/// registration names.
pub(super) fn prune(transaction: &WriteTransaction, now_ms: u64) -> Result<(), StoreError> {
    let registered = all(&transaction.open_table(REGISTRY).map_err(away)?)?;
    let mut known: BTreeSet<(String, String)> = registered
        .iter()
        .map(|(service, instance)| (service.to_string(), instance.id.to_string()))
        .collect();
    let mut loads = transaction.open_table(LOADS).map_err(away)?;
    let mut stale = Vec::new();
    for row in loads.iter().map_err(away)? {
        let (key, text) = row.map_err(away)?;
        let (service, reporter) = key.value();
        let load: StoredLoad = decode(text.value())?;
        if load.remembered_until_ms <= now_ms {
            stale.push((service.to_owned(), reporter.to_owned()));
            continue;
        }
        let ids = load
            .instances
            .iter()
            .map(|instance| instance.id.to_string());
        known.extend(ids.map(|id| (service.to_owned(), id)));
    }
    for (service, reporter) in &stale {
        loads
            .remove((service.as_str(), reporter.as_str()))
            .map_err(away)?;
    }
    totals::retain(transaction, |service, id| {
        known.contains(&(service.to_owned(), id.to_owned()))
    })
}
