//! What a session does each second beside records: loads, events and fixed data, and who is a member.

use std::sync::Arc;

use unitring_protocol::ids::UnitId;

use super::{Done, Session};
use crate::clock::now_ms;
use crate::sync::gossip::Gathered;
use crate::sync::links::amqp;
use crate::sync::machine::message;
use crate::sync::members;

/// A unit that left is told so at most this often.
const TELL_EVERY_MS: u64 = 10_000;

impl Session {
    /// Gathers the messages for the peers beside records, and reads the members.
    pub(super) fn gossip(&mut self) {
        if let Some(gossip) = self.gossip.take() {
            let work = gossip.gather(self.machine.limit(None));
            self.work
                .push(Box::pin(async { Done::Gossiped(work.await) }));
        }
        let store = Arc::clone(&self.parts.store);
        let (peers, own) = (self.settings.peers.clone(), self.unit.clone());
        self.work.push(Box::pin(async move {
            let removed = members::removed(&*store, &peers, &own, now_ms()).await;
            Done::Removed(removed.ok())
        }));
        let confirmed = self.machine.confirmed();
        let now = self.moment();
        // A companion that does not read its queue hears no peer.
        let reads = self.status.borrow().inbox.is_up();
        let silent_ms = |unit: &UnitId| {
            let silent_ms = self.silence.ms(unit, now.now_ms);
            silent_ms.filter(|_| reads)
        };
        self.status.send_if_modified(|status| {
            status.confirmed(confirmed);
            status.age(silent_ms, now.wall_ms);
            false
        });
    }

    /// Tells a unit that left, and sends all the same, that it left: it was away, or its queue was deleted before it
    /// read so. It takes writes until it knows, which no other unit gets.
    pub(super) fn tell_removed(&mut self, unit: &UnitId) {
        let at_ms = self.moment().now_ms;
        let told_ms = self.told_ms.get(unit);
        let is_told = told_ms.is_some_and(|told_ms| at_ms < told_ms.saturating_add(TELL_EVERY_MS));
        if is_told || !self.removed.contains(unit) {
            return;
        }
        self.told_ms.insert(unit.clone(), at_ms);
        let store = Arc::clone(&self.parts.store);
        let (own, unit) = (self.unit.clone(), unit.clone());
        let (url, access) = (self.settings.broker(&unit).clone(), self.access.clone());
        self.work.push(Box::pin(async move {
            if let Ok(Some(removal)) = members::removal_of(&*store, &unit, now_ms()).await
                // One that is about each store would keep out one that was added again, where that is not known here.
                && members::names_stores(&removal)
                && let Ok(bytes) = message::encode(&own, &members::notice(removal))
                && amqp::notice::send(&unit, &url, &access, &bytes).await
            {
                tracing::info!(to = %unit, "told that it was removed");
            }
            Done::Inputs(Vec::new())
        }));
    }

    pub(super) fn gossiped(&mut self, gathered: Gathered) {
        self.gossip = Some(gathered.gossip);
        let inputs = gathered.inputs.into_iter();
        inputs.for_each(|input| self.handle(input));
        if let Some(cut) = gathered.cut {
            for (loads, why) in &cut {
                if !self.status.borrow().is_unsendable(loads) {
                    tracing::warn!(unit = %self.unit, loads, why, "too large for one message");
                }
            }
            self.note_status(|status| status.loads_cut(cut));
        }
    }
}
