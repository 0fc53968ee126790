//! What is known of each reader and of its broker: the largest message, and what does not fit into one.

use unitring_protocol::ids::UnitId;
use unitring_protocol::record::RecordId;

use super::parts::Form;
use super::{Effect, Outgoing};

/// Most records that are named as too large for a broker; the metric counts all.
const UNSENDABLE_MAX: usize = 64;

impl Outgoing {
    /// Notes the largest message that a unit's broker takes.
    pub(in super::super) fn limit_known(&mut self, unit: &UnitId, bytes: usize) {
        if let Some(link) = self.links.get_mut(unit) {
            link.limit = Some(bytes);
        }
    }

    /// The smallest of the known message limits of these units.
    pub(in super::super) fn limit(&self, units: &[UnitId]) -> Option<usize> {
        let links = units.iter().filter_map(|unit| self.links.get(unit));
        links.filter_map(|link| link.limit).min()
    }

    /// The smallest of all known message limits.
    pub(in super::super) fn smallest_limit(&self) -> Option<usize> {
        self.links.values().filter_map(|link| link.limit).min()
    }

    /// Reports records that are too large, until a later change of the same record can be sent.
    pub(in super::super) fn note_unsendable<'a>(
        &mut self,
        units: &[UnitId],
        sent: impl Iterator<Item = &'a RecordId> + Clone,
        large: &[(RecordId, usize)],
        effects: &mut Vec<Effect>,
    ) {
        for unit in units {
            let Some(link) = self.links.get_mut(unit) else {
                continue;
            };
            let before = link.unsendable.clone();
            if !before.is_empty() {
                for id in sent.clone() {
                    link.unsendable.remove(id);
                }
            }
            for (id, bytes) in large {
                if link.unsendable.len() < UNSENDABLE_MAX {
                    link.unsendable.insert(id.clone(), *bytes);
                }
            }
            if link.unsendable != before {
                let (now, limit) = (link.unsendable.clone(), link.limit.unwrap_or(0));
                effects.push(Effect::Unsendable(unit.clone(), limit, now));
            }
        }
    }

    /// How ops become messages to all of these units.
    pub(super) fn form(&self, units: &[UnitId]) -> Form {
        let link = |unit| self.links.get(unit);
        Form {
            limit: self.limit(units),
            skips: units
                .iter()
                .all(|unit| link(unit).is_some_and(|link| link.knows_passed)),
        }
    }

    /// Notes whether a unit's companion knows of passed sequences: one that does tells the identity of its store.
    pub(in super::super) fn knows_passed(&mut self, unit: &UnitId, knows: bool) {
        if let Some(link) = self.links.get_mut(unit) {
            link.knows_passed = knows;
        }
    }
}
