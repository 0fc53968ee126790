//! What a session does each second beside records: loads, events and fixed data, and who is a member.

use std::sync::Arc;

use unitring_protocol::ids::UnitId;

use super::{Done, Session};
use crate::clock::now_ms;
use crate::sync::gossip::Gathered;
use crate::sync::members;

impl Session {
    /// Gathers the messages for the peers beside records, and reads the members.
    pub(super) fn gossip(&mut self) {
        if let Some(gossip) = self.gossip.take() {
            let work = gossip.gather(self.machine.limit(None));
            self.work
                .push(Box::pin(async { Done::Gossiped(work.await) }));
        }
        let store = Arc::clone(&self.parts.store);
        let units: Vec<UnitId> = self
            .settings
            .peers
            .iter()
            .chain([&self.unit])
            .cloned()
            .collect();
        self.work.push(Box::pin(async move {
            let removed = members::removed(&*store, units.iter(), now_ms()).await;
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
