//! [`Housekeeping`] in the file.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redb::{Durability, ReadableTable as _, WriteTransaction};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::Position;

use super::bucket::{Rows, row};
use super::fleet_changes::{expire, prune};
use super::tables::{EXPIRING, FENCE, GONE, NUMBERS, STAMPS, STAMPS_DUE, VALUES};
use super::{Embedded, away, off_thread};
use crate::moment::Moment;
use crate::replica::digest::record_id;
use crate::replica::transaction;
use crate::store::housekeeping::is_due;
use crate::store::settled::SettledClock;
use crate::store::{COLLECTED_MAX, Compacted, Housekeeping, SWEPT_MAX, Settled, StoreError};

/// Loads reach the disk at least this often. Until then no page that they were on before is used again.
const FLUSH_MS: u64 = 2_000;
/// How often silent reporters and counters of unknown instances are looked for: this reads every report, and blocks
/// all writes while it does.
const PRUNE_MS: u64 = 60_000;

/// Where the file has the time up to which it freed, and how often that is stored: where a process ends, so much is
/// taken for a jump at most.
const SETTLED: &str = "settled";
const SETTLED_KEPT_MS: u64 = 5_000;

/// Most records whose stamps are forgotten at a time: more than the disk takes updates until the next time.
const STAMPS_SWEPT_MAX: usize = 10_000;

/// Sorts behind every id: no name begins with such a character.
const LAST: &str = "\u{10ffff}";

/// Forgets records that were gone before this moment, as sweep.lua does.
fn collect(
    transaction: &WriteTransaction,
    store: &Embedded,
    bucket: u8,
    before_ms: u64,
    fence: &BTreeMap<UnitId, Position>,
) -> Result<u64, StoreError> {
    let mut gone = Vec::new();
    let table = transaction.open_table(GONE).map_err(away)?;
    for entry in table.range((bucket, "")..).map_err(away)? {
        let (key, at_ms) = entry.map_err(away)?;
        let (of, id) = key.value();
        if of != bucket || gone.len() >= COLLECTED_MAX {
            break;
        }
        if at_ms.value() <= before_ms {
            gone.push(record_id(id)?);
        }
    }
    drop(table);
    if gone.is_empty() {
        return Ok(0);
    }
    let mut rows = Rows::of(transaction, store, bucket)?;
    transaction::forget(&mut rows, &gone)?;
    rows.finish()?;
    let mut table = transaction.open_table(FENCE).map_err(away)?;
    for (unit, &needed) in fence {
        let key = (bucket, unit.as_str());
        table.insert(key, row(needed)).map_err(away)?;
    }
    Ok(u64::try_from(gone.len()).unwrap_or(u64::MAX))
}

/// Frees the values that have expired; without peers, nothing of these records is kept.
fn sweep(transaction: &WriteTransaction, store: &Embedded, now_ms: u64) -> Result<u64, StoreError> {
    let expiring = transaction.open_table(EXPIRING).map_err(away)?;
    let mut gone = Vec::new();
    for row in expiring.range(..=(now_ms, u8::MAX, LAST)).map_err(away)? {
        if gone.len() >= SWEPT_MAX {
            break;
        }
        let (key, _) = row.map_err(away)?;
        let (expires_ms, bucket, id) = key.value();
        gone.push((expires_ms, bucket, id.to_owned()));
    }
    drop(expiring);
    for (expires_ms, bucket, id) in &gone {
        if store.rules.has_peers {
            let mut values = transaction.open_table(VALUES).map_err(away)?;
            values.remove((*bucket, id.as_str())).map_err(away)?;
            let mut expiring = transaction.open_table(EXPIRING).map_err(away)?;
            let key = (*expires_ms, *bucket, id.as_str());
            expiring.remove(key).map_err(away)?;
        } else {
            let mut rows = Rows::of(transaction, store, *bucket)?;
            transaction::forget(&mut rows, &[record_id(id)?])?;
            rows.finish()?;
        }
    }
    Ok(u64::try_from(gone.len()).unwrap_or(u64::MAX))
}

/// Forgets at most so many stamps, of those that are due within these times.
pub(super) fn forget_stamps(
    transaction: &WriteTransaction,
    due_ms: impl RangeBounds<u64>,
    most: usize,
) -> Result<(), StoreError> {
    let mut due = transaction.open_table(STAMPS_DUE).map_err(away)?;
    let from = due_ms.start_bound().map(|ms| (*ms, 0, ""));
    let to = due_ms.end_bound().map(|ms| (*ms, u8::MAX, LAST));
    let mut forgotten = Vec::new();
    for row in due.range((from, to)).map_err(away)?.take(most) {
        let (key, _) = row.map_err(away)?;
        let (forget_ms, bucket, id) = key.value();
        forgotten.push((forget_ms, bucket, id.to_owned()));
    }
    let mut stamps = transaction.open_table(STAMPS).map_err(away)?;
    for (forget_ms, bucket, id) in &forgotten {
        stamps.remove((*bucket, id.as_str())).map_err(away)?;
        let key = (*forget_ms, *bucket, id.as_str());
        due.remove(key).map_err(away)?;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Embedded {
    /// Keeps in the file how late it is, with the next commit that goes to disk.
    async fn keep_settled(&self, until_ms: u64) -> Result<(), StoreError> {
        self.change(Durability::None, move |transaction, _| {
            let mut numbers = transaction.open_table(NUMBERS).map_err(away)?;
            numbers.insert(SETTLED, until_ms).map_err(away)?;
            Ok(())
        })
        .await
    }

    async fn last_settled(&self) -> Result<Option<u64>, StoreError> {
        self.look(|transaction| {
            let numbers = transaction.open_table(NUMBERS).map_err(away)?;
            let last_ms = numbers.get(SETTLED).map_err(away)?;
            Ok(last_ms.map(|last_ms| last_ms.value()))
        })
        .await
    }

    /// An operator says that the wall clock is right.
    pub(super) async fn believe(&self, wall_ms: u64) -> Result<(), StoreError> {
        if let Some(clock) = lock(&self.settled).as_mut() {
            clock.believe(wall_ms);
        }
        self.keep_settled(wall_ms).await
    }
}

#[async_trait]
impl Housekeeping for Embedded {
    async fn settled(&self, moment: Moment) -> Result<Settled, StoreError> {
        let is_known = lock(&self.settled).is_some();
        let last_ms = match is_known {
            true => None,
            false => self.last_settled().await?,
        };
        let begun = || SettledClock::begin(last_ms, moment);
        let settled = lock(&self.settled).get_or_insert_with(begun).look(moment);
        if is_due(&self.settled_kept_ms, SETTLED_KEPT_MS, moment.now_ms) || !is_known {
            self.keep_settled(settled.until_ms).await?;
        }
        Ok(settled)
    }

    async fn sweep(&self, now_ms: u64) -> Result<u64, StoreError> {
        // Most looks find nothing, and need no commit.
        let is_due = self.look(move |transaction| {
            let expiring = transaction.open_table(EXPIRING).map_err(away)?;
            let stamps = transaction.open_table(STAMPS_DUE).map_err(away)?;
            let firsts = [expiring.first(), stamps.first()];
            let firsts = firsts.into_iter().collect::<Result<Vec<_>, _>>();
            let mut firsts = firsts.map_err(away)?.into_iter().flatten();
            Ok(firsts.any(|(key, _)| key.value().0 <= now_ms))
        });
        if !is_due.await? {
            return Ok(0);
        }
        self.change(Durability::Immediate, move |transaction, store| {
            // Of records whose last data update is an hour ago.
            forget_stamps(transaction, ..=now_ms, STAMPS_SWEPT_MAX)?;
            sweep(transaction, store, now_ms)
        })
        .await
    }

    async fn collect(
        &self,
        bucket: u8,
        before_ms: u64,
        fence: &BTreeMap<UnitId, Position>,
    ) -> Result<u64, StoreError> {
        let fence = fence.clone();
        self.change(Durability::Immediate, move |transaction, store| {
            collect(transaction, store, bucket, before_ms, &fence)
        })
        .await
    }

    async fn expire(&self, now_ms: u64) -> Result<u64, StoreError> {
        let durability = if is_due(&self.flushed_ms, FLUSH_MS, now_ms) {
            Durability::Immediate
        } else {
            Durability::None
        };
        let prunes = is_due(&self.pruned_ms, PRUNE_MS, now_ms);
        self.pictures.expire(now_ms);
        self.change(durability, move |transaction, _| {
            let expired = expire(transaction, now_ms)?;
            if prunes {
                prune(transaction, now_ms)?;
            }
            Ok(expired)
        })
        .await
    }

    async fn hold_expiry(&self, _: Duration) -> Result<(), StoreError> {
        // The file has one companion, which does not ask for it then.
        Ok(())
    }

    async fn compact(&self) -> Result<Option<Compacted>, StoreError> {
        let store = self.clone();
        off_thread(move || store.compact_now().map(Some)).await
    }
}
