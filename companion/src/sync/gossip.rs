//! Messages between units beside records: loads, events and fixed data.
//!
//! Loads and events are of use for seconds only, so they go to the units that are connected now and
//! are not stored for the others. A unit stores the loads of a peer by the peer's reporters, which
//! count as long as in their own unit; so the bound of every filter holds over all units.

mod fixed_parts;
mod gathering;
mod messages;

pub(crate) use gathering::Gathering;

use std::collections::BTreeMap;

use unitring_protocol::envelope::{Body, FixedPart, FixedState, ServiceLoads, UnitEvent};
use unitring_protocol::ids::UnitId;

use super::machine::Input;
use super::{Parts, seen};
use crate::clock::now_ms;
use crate::events::{Cursor, Entry, Event};
use crate::loads::{LoadReport, shared};
use crate::store::StoreError;

/// How long a message of loads or events is of use.
const LASTS_MS: u64 = 5_000;
/// Most events in a message.
const EVENTS_MAX: usize = 500;

/// How far the gossip of this unit is.
pub(super) struct Gossip {
    unit: UnitId,
    parts: Parts,
    /// The last event that was sent, or the last one before sync began.
    events: Option<Cursor>,
}

impl Gossip {
    pub(super) fn new(unit: UnitId, parts: Parts) -> Self {
        Self {
            unit,
            parts,
            events: None,
        }
    }

    /// The messages that are due now, for brokers that take messages of so many bytes.
    pub(super) async fn gather(mut self, limit: Option<usize>) -> Gathered {
        let mut inputs = Vec::new();
        let mut cut = None;
        if let Some(told) = seen(self.loads(limit).await) {
            let loads = told.messages.into_iter();
            inputs.extend(loads.map(|loads| Input::Tell(loads, LASTS_MS)));
            cut = Some(told.cut);
        }
        for events in seen(self.events(limit).await).into_iter().flatten() {
            inputs.push(Input::Tell(events, LASTS_MS));
        }
        if let Some(fixed) = seen(self.parts.store.fixed().await) {
            let state = fixed.map(|fixed| FixedState {
                version: fixed.version,
                checksum: fixed.checksum,
            });
            inputs.push(Input::Fixed(state));
        }
        Gathered {
            gossip: self,
            inputs,
            cut,
        }
    }

    /// The loads of this unit's own reporters.
    async fn loads(&self, limit: Option<usize>) -> Result<messages::Told, StoreError> {
        let now_ms = now_ms();
        let mut services = Vec::new();
        for service in self.parts.store.reported().await? {
            let loads = self.parts.store.loads(&service, now_ms).await?;
            let reporters = shared::own(loads);
            if !reporters.is_empty() {
                services.push(ServiceLoads { service, reporters });
            }
        }
        if shared::merge_if_many(&self.unit, &mut services) {
            self.parts.metrics.unit_loads_merged.inc();
        }
        Ok(messages::loads(services, limit))
    }

    /// The events of this unit's instances since the last call.
    async fn events(&mut self, limit: Option<usize>) -> Result<Vec<Body>, StoreError> {
        let store = &self.parts.store;
        let Some(after) = self.events else {
            let last = store.events(None, 1).await?;
            self.events = Some(last.last().map_or(Cursor(0, 0), |(cursor, _)| *cursor));
            return Ok(Vec::new());
        };
        let events = store.events(Some(after), EVENTS_MAX).await?;
        if let Some((last, _)) = events.last() {
            self.events = Some(*last);
        }
        let own = events.into_iter().filter_map(|(_, entry)| match entry {
            Entry::Instance(event) if event.unit.is_none() => Some(UnitEvent {
                at_ms: event.at_ms,
                event: event.kind,
                service: event.service,
                instance: event.instance,
                reason: event.reason,
            }),
            Entry::Instance(_) | Entry::Group(_) => None,
        });
        Ok(messages::events(own.collect(), limit))
    }
}

/// What was gathered.
pub(super) struct Gathered {
    pub(super) gossip: Gossip,
    pub(super) inputs: Vec<Input>,
    /// The reporters whose loads no message has room for, with the reason; `None` if the store did not answer.
    pub(super) cut: Option<BTreeMap<String, String>>,
}

/// Handles a message of a peer, whose broker takes messages of so many bytes; returns the messages to send back.
pub(super) async fn heard(
    parts: &Parts,
    term: u64,
    (from, limit): (UnitId, Option<usize>),
    body: Body,
) -> Vec<Input> {
    let done = match body {
        Body::Loads { services } => loads(parts, &from, services).await,
        Body::Events { events } => happened(parts, term, &from, events).await,
        Body::FixedRequest {} => match fixed(parts, limit).await {
            Ok(sent) => return vec![Input::Send(from, sent)],
            Err(error) => Err(error),
        },
        Body::Fixed(part) => load_fixed(parts, &from, part).await,
        _ => Ok(()),
    };
    seen(done);
    Vec::new()
}

/// Stores a peer's loads, by reporter.
async fn loads(
    parts: &Parts,
    from: &UnitId,
    services: Vec<ServiceLoads>,
) -> Result<(), StoreError> {
    for ServiceLoads { service, reporters } in services {
        for told in reporters {
            let report = LoadReport::of_unit(from, &service, told);
            match parts.store.take(&report, 0, now_ms()).await {
                // The reporter of that name in this unit has precedence.
                Err(StoreError::NotYours(reporter)) => {
                    tracing::debug!(%from, %reporter, "a reporter of another unit has the name of a reporter of this unit");
                }
                taken => drop(taken?),
            }
        }
    }
    parts.metrics.unit_loads.inc();
    Ok(())
}

async fn happened(
    parts: &Parts,
    term: u64,
    from: &UnitId,
    events: Vec<UnitEvent>,
) -> Result<(), StoreError> {
    for event in events.into_iter().take(EVENTS_MAX) {
        let entry = Entry::Instance(Event::of_unit(from, event));
        parts.store.append(term, &entry).await?;
        parts.metrics.unit_events.inc();
    }
    parts.events_changed.notify_waiters();
    Ok(())
}

/// All fixed data of this unit, in parts.
async fn fixed(parts: &Parts, limit: Option<usize>) -> Result<Vec<Body>, StoreError> {
    let Some((fixed, data)) = parts.store.fixed_data().await? else {
        return Ok(Vec::new());
    };
    let state = FixedState {
        version: fixed.version,
        checksum: fixed.checksum,
    };
    Ok(fixed_parts::messages(&state, data, limit))
}

/// Gathers parts until all are there, and loads the data if their checksum is right.
async fn load_fixed(parts: &Parts, from: &UnitId, part: FixedPart) -> Result<(), StoreError> {
    let Some((state, data)) = parts.fixed.gathered(from, part) else {
        return Ok(());
    };
    if data.checksum() != state.checksum {
        parts.metrics.fixed_refused.inc();
        tracing::warn!(%from, version = state.version, "fixed data refused: wrong checksum");
        return Ok(());
    }
    if parts.store.load_fixed(state.version, &data).await? {
        parts.metrics.fixed_loaded.inc();
        tracing::info!(%from, version = state.version, "fixed data of another unit loaded");
    }
    Ok(())
}
