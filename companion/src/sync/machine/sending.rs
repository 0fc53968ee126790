//! Messages beside ops and repairs → the units whose brokers take them.

use unitring_protocol::envelope::{Body, FixedState};
use unitring_protocol::ids::UnitId;

use super::message::encoded_bytes;
use super::{Effect, Lasts, Machine};

const FIXED_DATA: &str = "fixed data";

impl Machine {
    /// The most that the broker of this unit takes in a message, or that all brokers do, as far as they reported it.
    pub(crate) fn limit(&self, unit: Option<&UnitId>) -> Option<usize> {
        match unit {
            Some(unit) => self.outgoing.limit(std::slice::from_ref(unit)),
            None => self.outgoing.smallest_limit(),
        }
    }

    /// Sends a message to all peers whose links are up; the others miss it.
    pub(super) fn tell(&mut self, body: Body, lasts_ms: u64, effects: &mut Vec<Effect>) {
        let mut to: Vec<UnitId> = self.outgoing.up().cloned().collect();
        to.retain(|unit| self.fits(unit, &body, effects));
        if to.is_empty() {
            return;
        }
        let id = self.next_message();
        let lasts = Lasts::Ms(lasts_ms);
        effects.push(Effect::Publish {
            id,
            to,
            lasts,
            body,
        });
    }

    pub(super) fn send(&mut self, unit: UnitId, body: Body, effects: &mut Vec<Effect>) {
        if !self.outgoing.is_up(&unit) {
            return;
        }
        effects.push(Effect::Publish {
            id: self.next_message(),
            to: vec![unit],
            lasts: Lasts::UntilRead,
            body,
        });
    }

    /// Sends messages one after the other. If one of them is too large for the unit's broker, none is of use.
    pub(super) fn send_all(&mut self, unit: &UnitId, bodies: Vec<Body>, effects: &mut Vec<Effect>) {
        if !self.outgoing.is_up(unit) || self.parcels.is_sending(unit) {
            return;
        }
        let largest = self.limit(Some(unit)).and_then(|_| {
            let bytes = |body: &&Body| encoded_bytes(&self.unit, body);
            bodies.iter().max_by_key(bytes)
        });
        if largest.is_none_or(|largest| self.fits(unit, largest, effects)) {
            self.parcels.begin(unit, bodies);
            self.send_next(unit, effects);
        }
    }

    /// This unit has other fixed data: whether they are too large is known once a peer asks for them.
    pub(super) fn fixed_is(&mut self, fixed: Option<FixedState>, effects: &mut Vec<Effect>) {
        if fixed == self.fixed {
            return;
        }
        self.fixed = fixed;
        self.oversized.retain(|(unit, kind)| {
            let is_other = *kind != FIXED_DATA;
            if !is_other {
                effects.push(Effect::Oversized(unit.clone(), kind, None));
            }
            is_other
        });
    }

    pub(super) fn send_next(&mut self, unit: &UnitId, effects: &mut Vec<Effect>) {
        let id = self.next_message();
        if let Some(body) = self.parcels.next(unit, id) {
            effects.push(Effect::Publish {
                id,
                to: vec![unit.clone()],
                lasts: Lasts::UntilRead,
                body,
            });
        }
    }

    /// Whether a unit's broker takes a message, as far as its limit is known. Sent to a broker that does not, it would
    /// end the connection each time.
    fn fits(&mut self, unit: &UnitId, body: &Body, effects: &mut Vec<Effect>) -> bool {
        let Some(limit) = self.limit(Some(unit)) else {
            return true;
        };
        let key = (unit.clone(), kind(body));
        let bytes = encoded_bytes(&self.unit, body);
        if bytes > limit {
            if self.oversized.insert(key) {
                let sizes = Some((bytes, limit));
                effects.push(Effect::Oversized(unit.clone(), kind(body), sizes));
            }
            return false;
        }
        if self.oversized.remove(&key) {
            effects.push(Effect::Oversized(unit.clone(), kind(body), None));
        }
        true
    }
}

/// What people call a kind of message.
fn kind(body: &Body) -> &'static str {
    match body {
        Body::Ops { .. } => "changes",
        Body::Repair(_) => "repairs",
        Body::Digests { .. } => "digests",
        Body::RepairRequest { .. } => "requests for repairs",
        Body::FixedRequest {} => "requests for fixed data",
        Body::Fixed(_) => FIXED_DATA,
        Body::Loads { .. } => "loads",
        Body::Events { .. } => "events",
    }
}
