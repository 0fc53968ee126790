//! Outbox → messages → confirm → trim, one step at a time per bucket.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::envelope::Body;
use unitring_protocol::record::Op;

use super::{Effect, MessageId, Note, RETRY_MS, Route, count};

/// Buckets that are sent at a time.
pub const BUCKETS_AT_ONCE_MAX: usize = 16;

/// Where a bucket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Reading,
    Publishing {
        id: MessageId,
        through: u64,
        ops: u64,
    },
    Trimming,
    Pausing {
        until_ms: u64,
    },
}

/// What is on its way out.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Buckets that may have ops.
    dirty: BTreeSet<u8>,
    busy: BTreeMap<u8, Step>,
}

impl Outgoing {
    pub(super) fn dirty(&mut self, buckets: impl IntoIterator<Item = u8>) {
        self.dirty.extend(buckets);
    }

    pub(super) fn link_down(&mut self) {
        let unsure = |step: &Step| matches!(step, Step::Publishing { .. });
        let buckets = self.busy.iter().filter(|(_, step)| unsure(step));
        self.dirty.extend(buckets.map(|(bucket, _)| *bucket));
        self.busy.retain(|_, step| !unsure(step));
    }

    pub(super) fn go_on(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        self.busy
            .retain(|_, step| !matches!(step, Step::Pausing { until_ms } if *until_ms <= now_ms));
        let ready: Vec<u8> = self
            .dirty
            .iter()
            .filter(|bucket| !self.busy.contains_key(bucket))
            .take(BUCKETS_AT_ONCE_MAX.saturating_sub(self.busy.len()))
            .copied()
            .collect();
        for bucket in ready {
            self.dirty.remove(&bucket);
            self.busy.insert(bucket, Step::Reading);
            effects.push(Effect::ReadOutbox(bucket));
        }
    }

    fn pause(&mut self, bucket: u8, now_ms: u64) {
        let until_ms = now_ms + RETRY_MS;
        self.dirty.insert(bucket);
        self.busy.insert(bucket, Step::Pausing { until_ms });
    }

    pub(super) fn read(
        &mut self,
        bucket: u8,
        ops: Option<Vec<Op>>,
        id: MessageId,
        is_up: bool,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(ops) = ops.filter(|_| is_up) else {
            return self.pause(bucket, now_ms);
        };
        let Some(last) = ops.last() else {
            self.busy.remove(&bucket);
            return;
        };
        let step = Step::Publishing {
            id,
            through: last.sequence,
            ops: count(ops.len()),
        };
        self.busy.insert(bucket, step);
        effects.push(Effect::Publish(id, Route::All, Body::Ops { bucket, ops }));
    }

    pub(super) fn published(
        &mut self,
        id: MessageId,
        confirmed: bool,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        let found = self.busy.iter().find_map(|(bucket, step)| match step {
            Step::Publishing {
                id: of,
                through,
                ops,
            } if *of == id => Some((*bucket, *through, *ops)),
            _ => None,
        });
        let Some((bucket, through, ops)) = found else {
            return;
        };
        if !confirmed {
            return self.pause(bucket, now_ms);
        }
        self.busy.insert(bucket, Step::Trimming);
        effects.push(Effect::Note(Note::OpsPublished, ops));
        effects.push(Effect::Trim(bucket, through));
    }

    pub(super) fn trimmed(&mut self, bucket: u8, done: bool, now_ms: u64) {
        if !done {
            // They go out again, which changes nothing there.
            return self.pause(bucket, now_ms);
        }
        self.busy.remove(&bucket);
        // There may be more than one message took.
        self.dirty.insert(bucket);
    }
}
