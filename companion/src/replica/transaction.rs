//! The steps of a change on one bucket, in their order, for any storage: the embedded store and the
//! simulation. [`merge`](super::merge) has the decisions. A step is made as a whole, or not at all.

use std::collections::BTreeMap;

use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Op, Position, Record, RecordId, Value, Version};

use super::bucket::{Bucket, Progress, is_fenced};
use super::change::{CONFLICT_VALUE_MAX, ClockAhead, Conflict, OpStep, op_steps};
use super::digest::share;
use super::merge::{
    Decision, Refusal, Rules, Stays, WriteDecision, decide_op, decide_record, decide_write,
};
use super::{Applied, Batch, Change, Condition, Mark, Outcome, Part, Stamps, Written};

/// A change to append to the outbox.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub sequence: u64,
    pub id: &'a RecordId,
    /// The record's mark after the change.
    pub mark: &'a Mark,
    /// The value; `None` for a deletion.
    pub value: Option<&'a [u8]>,
    /// The version that it replaces.
    pub over: Option<&'a Version>,
}

/// One bucket of a store, inside one transaction.
pub(crate) trait BucketTransaction {
    /// The store's error.
    type Error: From<ClockAhead>;

    /// The state that decisions need.
    fn bucket(&mut self) -> Result<Bucket, Self::Error>;
    /// Stores its clock and the position of its last own op.
    fn set_bucket(&mut self, bucket: Bucket) -> Result<(), Self::Error>;
    fn mark(&mut self, id: &RecordId) -> Result<Option<Mark>, Self::Error>;
    fn value(&mut self, id: &RecordId) -> Result<Option<Value>, Self::Error>;
    /// Replaces mark and value, and stores the time of removal, if the record is deleted or expires.
    /// Without a mark nothing is kept. Returns the former mark.
    fn replace(
        &mut self,
        id: &RecordId,
        mark: Option<&Mark>,
        value: Option<&[u8]>,
        gone_ms: Option<u64>,
    ) -> Result<Option<Mark>, Self::Error>;
    /// Mixes a share into one of the digests.
    fn mix(&mut self, part: Part, share: u64) -> Result<(), Self::Error>;
    /// Appends to the log of changes.
    fn log_change(&mut self, id: &RecordId, mark: &Mark) -> Result<(), Self::Error>;
    /// Whether no op waits.
    fn outbox_is_empty(&mut self) -> Result<bool, Self::Error>;
    /// Appends to the outbox.
    fn push_outbox(&mut self, op: Outgoing<'_>) -> Result<(), Self::Error>;
    /// The position up to which the ops of a unit are applied.
    fn applied(&mut self, unit: &UnitId) -> Result<Position, Self::Error>;
    /// Stores that position.
    fn set_applied(&mut self, unit: &UnitId, position: Position) -> Result<(), Self::Error>;
    /// The fence: the positions that every member had when records were last collected.
    fn fence(&mut self) -> Result<BTreeMap<UnitId, Position>, Self::Error>;
    /// The stamps of a record, none if nothing is stored.
    fn stamps(&mut self, id: &RecordId) -> Result<Stamps, Self::Error>;
    /// Stores the stamps of a record, until they are forgotten.
    fn set_stamps(&mut self, id: &RecordId, stamps: &Stamps) -> Result<(), Self::Error>;
    /// Appends a conflict to the log.
    fn log_conflict(&mut self, conflict: Conflict) -> Result<(), Self::Error>;
}

/// Makes a write of this unit.
///
/// # Errors
/// The store's.
pub(crate) fn write<T: BucketTransaction>(
    store: &mut T,
    rules: &Rules,
    id: &RecordId,
    (change, condition): (Change<'_>, &Condition),
    now_ms: u64,
) -> Result<Outcome, T::Error> {
    let stamps = match condition {
        Condition::After(stamp) => {
            let stamps = store.stamps(id)?;
            if !stamps.admits(stamp, now_ms) {
                return Ok(Outcome::Overtaken);
            }
            Some(stamps.with(*stamp, now_ms))
        }
        _ => None,
    };
    let (there, bucket) = (store.mark(id)?, store.bucket()?);
    let is_empty = bucket.begins_anew() && store.outbox_is_empty()?;
    let bucket = (bucket, is_empty);
    let put = match decide_write(rules, bucket, there.as_ref(), condition, change, now_ms) {
        WriteDecision::Keep => {
            // Otherwise an earlier update that arrives later would bring back the record that this one deletes.
            if let Some(stamps) = &stamps {
                store.set_stamps(id, stamps)?;
            }
            return Ok(Outcome::Nothing);
        }
        WriteDecision::Refuse(there) => return Ok(Outcome::Refused(there)),
        WriteDecision::Ahead(ahead) => return Err(ahead.into()),
        WriteDecision::Put(put) => put,
    };
    let there = match change {
        Change::Again if put.mark.is_live(now_ms) => store.value(id)?,
        Change::Again | Change::Put { .. } | Change::Delete => None,
    };
    if change == Change::Again && !put.mark.is_deleted && there.is_none() {
        // Its value was lost, or it has expired: neither is an empty value, so nothing is written again.
        return Ok(Outcome::Nothing);
    }
    if let Some(stamps) = &stamps {
        store.set_stamps(id, stamps)?;
    }
    let value = match change {
        Change::Put { value, .. } => Some(value),
        Change::Again => there.as_ref().map(|value| value.0.as_slice()),
        Change::Delete => None,
    };
    let kept = Some(&put.mark).filter(|_| put.is_kept);
    // Also one that has expired: our clock may be wrong, and the store frees it by its own time.
    exchange(store, id, kept, value, now_ms)?;
    store.log_change(id, &put.mark)?;
    if rules.has_peers {
        store.push_outbox(Outgoing {
            sequence: put.bucket.own.sequence,
            id,
            mark: &put.mark,
            value,
            over: put.over.as_ref(),
        })?;
    }
    store.set_bucket(put.bucket)?;
    Ok(Outcome::Done(Written {
        version: put.mark.version,
        created: put.created,
    }))
}

/// Replaces a record, and updates the digests.
fn exchange<T: BucketTransaction>(
    store: &mut T,
    id: &RecordId,
    mark: Option<&Mark>,
    value: Option<&[u8]>,
    now_ms: u64,
) -> Result<(), T::Error> {
    let gone_ms = mark.and_then(|mark| mark.gone_ms(now_ms));
    let before = store.replace(id, mark, value, gone_ms)?;
    for mark in before.iter().chain(mark) {
        if let Some(part) = mark.part() {
            store.mix(part, share(&id.to_string(), &mark.to_string()).0)?;
        }
    }
    Ok(())
}

/// Collects records that are gone.
///
/// # Errors
/// The store's.
pub(crate) fn forget<T: BucketTransaction>(
    store: &mut T,
    ids: &[RecordId],
) -> Result<(), T::Error> {
    for id in ids {
        exchange(store, id, None, None, 0)?;
    }
    Ok(())
}

/// Applies a batch of another unit.
///
/// # Errors
/// The store's.
pub(crate) fn apply<T: BucketTransaction>(
    store: &mut T,
    rules: &Rules,
    batch: &Batch,
    now_ms: u64,
) -> Result<Applied, T::Error> {
    let mut step = Apply {
        bucket: store.bucket()?,
        store,
        rules,
        now_ms,
        applied: Applied::default(),
    };
    match batch {
        // An incarnation is a time: one of the future would cover every op of its unit until then.
        Batch::Ops {
            incarnation, ops, ..
        } if rules.ahead(*incarnation, now_ms).is_some() => {
            step.applied.ahead = u64::try_from(ops.len()).unwrap_or(u64::MAX);
        }
        Batch::Ops {
            origin,
            incarnation,
            ops,
            passed,
        } => step.ops(origin, *incarnation, &op_steps(ops, passed))?,
        Batch::Records {
            records,
            positions,
            clock,
            is_last,
        } => {
            let is_fenced = is_fenced(&step.store.fence()?, positions);
            for record in records {
                step.record(record, is_fenced)?;
            }
            if *is_last {
                step.hear(*clock);
                step.claim(positions)?;
            }
        }
    }
    let (bucket, applied) = (step.bucket, step.applied);
    store.set_bucket(bucket)?;
    Ok(applied)
}

/// A batch while it is applied.
struct Apply<'a, T> {
    store: &'a mut T,
    rules: &'a Rules,
    now_ms: u64,
    bucket: Bucket,
    applied: Applied,
}

impl<T: BucketTransaction> Apply<'_, T> {
    /// Moves the bucket's clock forward, unless the other clock is too far ahead.
    fn hear(&mut self, clock: Clock) {
        if self.rules.ahead(clock.ms, self.now_ms).is_none() {
            self.bucket.clock = self.bucket.clock.max(clock);
        }
    }

    fn ops(
        &mut self,
        origin: &UnitId,
        incarnation: u64,
        steps: &[OpStep<'_>],
    ) -> Result<(), T::Error> {
        let before = self.store.applied(origin)?;
        let mut position = before;
        for step in steps {
            let sequence = match step {
                OpStep::Op(op) => op.sequence,
                OpStep::Passed(sequence) => *sequence,
            };
            let here = Position {
                incarnation,
                sequence,
            };
            let progress = Progress::of(position, here);
            if let OpStep::Op(op) = step {
                self.op(op, progress == Progress::Covered)?;
            }
            match progress {
                Progress::Next => position = here,
                Progress::Gap => self.applied.gaps += 1,
                Progress::Covered => {}
            }
        }
        if position > before {
            self.store.set_applied(origin, position)?;
        }
        Ok(())
    }

    fn op(&mut self, op: &Op, is_covered: bool) -> Result<(), T::Error> {
        let (id, version) = (&op.record.id, &op.record.version);
        self.hear(version.clock);
        let there = self.store.mark(id)?;
        let decision = decide_op(self.rules, there.as_ref(), op, is_covered, self.now_ms);
        if let (Decision::Conflict(stays), Some(there)) = (decision, &there) {
            let new = Mark::of(&op.record);
            let (lost, kept, value) = match stays {
                Stays::Change if there.is_live(self.now_ms) => {
                    (there, version, self.store.value(id)?)
                }
                Stays::Change => (there, version, None),
                Stays::There => (&new, &there.version, op.record.live(self.now_ms).cloned()),
            };
            self.applied.conflicts += 1;
            self.store.log_conflict(Conflict {
                at_ms: self.now_ms,
                record: id.clone(),
                lost: lost.to_string(),
                kept: kept.to_string(),
                value: value.filter(|value| value.0.len() <= CONFLICT_VALUE_MAX),
            })?;
        }
        self.decided(&op.record, decision)
    }

    fn record(&mut self, record: &Record, is_fenced: bool) -> Result<(), T::Error> {
        self.hear(record.version.clock);
        let there = self.store.mark(&record.id)?;
        let decision = decide_record(self.rules, there.as_ref(), record, is_fenced, self.now_ms);
        self.decided(record, decision)
    }

    fn decided(&mut self, record: &Record, decision: Decision) -> Result<(), T::Error> {
        match decision {
            Decision::Refuse(Refusal::Fenced) => self.applied.refused += 1,
            Decision::Refuse(Refusal::Ahead) => self.applied.ahead += 1,
            Decision::Keep | Decision::Put | Decision::Conflict(_) => {}
        }
        if !decision.is_put() {
            return Ok(());
        }
        let mark = Mark::of(record);
        let value = record.value.as_ref().map(|value| value.0.as_slice());
        exchange(self.store, &record.id, Some(&mark), value, self.now_ms)?;
        self.store.log_change(&record.id, &mark)?;
        self.applied.changed += 1;
        Ok(())
    }

    fn claim(&mut self, positions: &BTreeMap<UnitId, Position>) -> Result<(), T::Error> {
        for (unit, claim) in positions {
            let is_ahead = self.rules.ahead(claim.incarnation, self.now_ms).is_some();
            if !is_ahead && *claim > self.store.applied(unit)? {
                self.store.set_applied(unit, *claim)?;
            }
        }
        Ok(())
    }
}
