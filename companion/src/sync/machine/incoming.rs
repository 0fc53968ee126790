//! Deliveries → batches → acknowledgement. All gathered deliveries are applied in one call; those
//! that arrive meanwhile gather for the next.
//!
//! A batch that the store does not take stays unacknowledged and is tried again. It is not returned
//! to the broker: that would change the order, and no other consumer could take it.

use super::{Effect, Note, RETRY_MS, Tag};
use crate::store::{Applied, Batch};

/// Most deliveries that are held; the broker sends no more until one is acknowledged.
pub(crate) const DELIVERIES_MAX: u16 = 32;

/// A delivery, and the batches to apply for it.
type Delivery = (Tag, Vec<(u8, Batch)>);

/// Deliveries that are not applied yet.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    gathered: Vec<Delivery>,
    applying: Option<Vec<Delivery>>,
    again_at_ms: u64,
}

impl Incoming {
    /// Drops deliveries that are not acknowledged: the broker delivers them again.
    pub(super) fn inbox_down(&mut self) {
        self.gathered.clear();
        if let Some(applying) = &mut self.applying {
            // The tags are void, but the store finishes the batch that it is applying.
            applying.clear();
        }
    }

    pub(super) fn push(&mut self, tag: Tag, parts: Vec<(u8, Batch)>) {
        self.gathered.push((tag, parts));
    }

    pub(super) fn go_on(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.applying.is_some() || self.gathered.is_empty() || self.again_at_ms > now_ms {
            return;
        }
        let applying = std::mem::take(&mut self.gathered);
        let parts = applying.iter().flat_map(|(_, parts)| parts.clone());
        effects.push(Effect::Apply(parts.collect()));
        self.applying = Some(applying);
    }

    /// Handles the store's answer; returns the batches that were applied.
    pub(super) fn applied(
        &mut self,
        applied: Option<Vec<Applied>>,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) -> Vec<(u8, Batch)> {
        let applying = self.applying.take().unwrap_or_default();
        let Some(applied) = applied else {
            effects.push(Effect::Note(Note::ApplyFailures, 1));
            self.again_at_ms = now_ms + RETRY_MS;
            let later = std::mem::replace(&mut self.gathered, applying);
            self.gathered.extend(later);
            return Vec::new();
        };
        effects.extend(applying.iter().map(|(tag, _)| Effect::Ack(*tag)));
        let parts: Vec<_> = applying.into_iter().flat_map(|(_, parts)| parts).collect();
        for ((_, batch), applied) in parts.iter().zip(applied) {
            let changed = match batch {
                Batch::Ops { .. } => Note::RecordsApplied,
                Batch::Records { .. } => Note::Repaired,
            };
            effects.push(Effect::Note(changed, applied.changed));
            effects.push(Effect::Note(Note::Gaps, applied.gaps));
            effects.push(Effect::Note(Note::Conflicts, applied.conflicts));
            effects.push(Effect::Note(Note::RecordsRefused, applied.refused));
            effects.push(Effect::Note(Note::Ahead, applied.ahead));
        }
        parts
    }
}
