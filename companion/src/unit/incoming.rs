//! Deliveries → batches → acknowledgement, in order per bucket.
//!
//! What the store does not take is tried again and stays unacknowledged. It is not given back to
//! the broker: that would change the order, and there is nobody else to take it.

use std::collections::{BTreeSet, VecDeque};

use super::{Effect, Note, RETRY_MS, Tag};
use crate::store::{Applied, Batch};

/// Deliveries that are held at a time; the broker sends no more before one is acknowledged.
pub const DELIVERIES_MAX: u16 = 64;

#[derive(Debug)]
struct Delivery {
    tag: Tag,
    bucket: u8,
    batch: Batch,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Queued,
    Applying,
    Pausing { until_ms: u64 },
}

/// What is on its way in.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    queue: VecDeque<Delivery>,
}

impl Incoming {
    pub(super) fn link_down(&mut self) {
        self.queue.clear();
    }

    pub(super) fn push(&mut self, tag: Tag, bucket: u8, batch: Batch) {
        self.queue.push_back(Delivery {
            tag,
            bucket,
            batch,
            step: Step::Queued,
        });
    }

    pub(super) fn go_on(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let mut before = BTreeSet::new();
        for delivery in &mut self.queue {
            let is_first = before.insert(delivery.bucket);
            let is_ready = match delivery.step {
                Step::Queued => true,
                Step::Applying => false,
                Step::Pausing { until_ms } => until_ms <= now_ms,
            };
            if is_first && is_ready {
                delivery.step = Step::Applying;
                let batch = delivery.batch.clone();
                effects.push(Effect::Apply(delivery.tag, delivery.bucket, batch));
            }
        }
    }

    pub(super) fn applied(
        &mut self,
        tag: Tag,
        applied: Option<Applied>,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(at) = self.queue.iter().position(|delivery| delivery.tag == tag) else {
            // Delivered before the link went down; it comes again.
            return;
        };
        let Some(applied) = applied else {
            effects.push(Effect::Note(Note::ApplyFailures, 1));
            if let Some(delivery) = self.queue.get_mut(at) {
                let until_ms = now_ms + RETRY_MS;
                delivery.step = Step::Pausing { until_ms };
            }
            return;
        };
        let Some(delivery) = self.queue.remove(at) else {
            return;
        };
        let changed = match delivery.batch {
            Batch::Ops { .. } => Note::RecordsApplied,
            Batch::Records { .. } => Note::Repaired,
        };
        effects.push(Effect::Note(changed, applied.changed));
        effects.push(Effect::Note(Note::Gaps, applied.gaps));
        effects.push(Effect::Ack(tag));
    }
}
