//! Effects of the machine → store and links.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use unitring_protocol::envelope::Body;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::Op;

use super::traced::applying;
use super::{Done, Session, millis};
use crate::clock::{self, now_ms};
use crate::replica::epoch;
use crate::store::Batch;
use crate::sync::links::{Publish, Verdict};
use crate::sync::machine::{Effect, Input, Lasts, MessageId, Note, message};
use crate::sync::seen;
use crate::sync::skew_alarm::Alarm;
use crate::trace::{self, Failure as _};

impl Session {
    pub(super) fn perform(&mut self, effect: Effect, delivered: &[u8]) {
        let store = Arc::clone(&self.parts.store);
        match effect {
            Effect::Count => self.count(),
            Effect::ReadCursors => {
                self.spawn(async move { Input::CursorsRead(seen(store.cursors().await)) });
            }
            Effect::ReadOutboxes(asked) => {
                self.spawn(async move { Input::OutboxesRead(seen(store.outboxes(&asked).await)) });
            }
            Effect::Confirm(unit, cursors, members) => {
                let shared = Arc::clone(&self.handle.shared);
                self.spawn(async move {
                    let removed = seen(store.confirm(&unit, &cursors, &members).await);
                    shared.trimmed(removed.unwrap_or(0));
                    Input::Confirmed(unit, removed.is_some())
                });
            }
            Effect::Shorten(keep) => {
                let shared = Arc::clone(&self.handle.shared);
                let metrics = Arc::clone(&self.parts.metrics);
                self.spawn(async move {
                    let removed = seen(store.shorten(&keep).await).unwrap_or(0);
                    shared.trimmed(removed);
                    if removed > 0 {
                        metrics.outbox_dropped.inc_by(removed);
                        tracing::warn!(
                            ops = removed,
                            "the outbox is full: changes dropped; peers that lack them get a repair"
                        );
                    }
                    Input::Shortened
                });
            }
            Effect::Apply(parts) => {
                let spans = applying(&parts);
                self.spawn(async move {
                    let apply = store.apply(&parts, now_ms());
                    let applied = trace::within(spans.first(), apply).await;
                    if let Err(error) = &applied {
                        spans.iter().for_each(|span| span.failed(error.word()));
                    }
                    Input::Applied(seen(applied))
                })
            }
            Effect::ReadStates(purpose) => self.spawn(async move {
                let now_ms = now_ms();
                let states = seen(store.states(now_ms).await);
                Input::States(purpose, states.map(|states| (epoch(now_ms), states)))
            }),
            Effect::ReadPage(bucket, page) => {
                self.spawn(async move { Input::PageRead(seen(store.page(bucket, page).await)) });
            }
            Effect::Collect(bucket, before_ms, fence) => {
                let metrics = Arc::clone(&self.parts.metrics);
                self.work.push(Box::pin(async move {
                    let settled = seen(store.settled(clock::moment()).await);
                    let before_ms = settled.map(|settled| settled.until_ms.min(before_ms));
                    let collected = match before_ms {
                        Some(before_ms) => seen(store.collect(bucket, before_ms, &fence).await),
                        None => None,
                    };
                    metrics.tombstones_collected.inc_by(collected.unwrap_or(0));
                    Done::Inputs(Vec::new())
                }));
            }
            Effect::Publish {
                id,
                to,
                lasts,
                body,
            } => self.publish(id, &to, lasts, body),
            Effect::Ack(tag) => self.judge(Verdict::Ack(tag)),
            Effect::SetAside(tag, from) => {
                if self.note_status(|status| status.stranger(&from, now_ms())) {
                    tracing::warn!(unit = %self.unit, %from, "messages set aside: their unit is not a member");
                }
                self.parts.metrics.strangers.inc();
                self.tell_removed(&from);
                self.judge(Verdict::SetAside(tag, delivered.to_vec()));
            }
            Effect::Recount(bucket) => {
                let metrics = Arc::clone(&self.parts.metrics);
                self.work.push(Box::pin(async move {
                    let recounted = seen(store.recount(bucket, now_ms()).await).unwrap_or_default();
                    if recounted.was_wrong {
                        metrics.digests_recounted.inc();
                        tracing::warn!(
                            bucket,
                            lost = recounted.lost,
                            "the bucket's digest did not match its records; it was recomputed"
                        );
                    }
                    Done::Inputs(Vec::new())
                }));
            }
            Effect::Aside(from, record, fault) => {
                self.set_aside(&from, &record.to_string(), &fault.to_string());
            }
            Effect::Unsendable(unit, limit, records) => {
                for (record, bytes) in &records {
                    tracing::warn!(to = %unit, %record, bytes, limit, "the record is too large for the peer's broker");
                }
                self.status
                    .send_modify(|status| status.unsendable(&unit, limit, &records));
            }
            Effect::Oversized(unit, kind, sizes) => {
                if let Some((bytes, limit)) = sizes {
                    tracing::warn!(to = %unit, kind, bytes, limit, "the message is too large for the peer's broker");
                }
                self.status
                    .send_modify(|status| status.oversized(&unit, kind, sizes));
            }
            Effect::Namesake(from) => {
                self.parts.metrics.namesakes.inc();
                if self.note_status(|status| status.namesake(&from, now_ms())) {
                    tracing::warn!(
                        unit = %self.unit, %from,
                        "two stores use the name of this peer: a second unit, or a second group at this broker, has it"
                    );
                }
            }
            Effect::Heard(from, body) => self.heard(from, body),
            Effect::Skew(unit, skew_ms) => self.skew(unit, skew_ms),
            Effect::Note(note, count) => self.note(note, count),
            Effect::Compared(unit, comparison) => {
                if !comparison.diverged.is_empty() {
                    let buckets = &comparison.diverged;
                    tracing::warn!(with = %unit, ?buckets, "buckets differ: asking for a repair");
                }
                self.status
                    .send_modify(|status| status.compared(&unit, comparison));
            }
            Effect::Done(parts) => self.done(&parts),
        }
    }

    fn spawn(&self, work: impl Future<Output = Input> + Send + 'static) {
        self.work
            .push(Box::pin(async { Done::Inputs(vec![work.await]) }));
    }

    fn count(&self) {
        let store = Arc::clone(&self.parts.store);
        let shared = Arc::clone(&self.handle.shared);
        let metrics = Arc::clone(&self.parts.metrics);
        self.spawn(async move {
            let written_before = shared.written.load(Ordering::Relaxed);
            let waiting = seen(store.waiting().await);
            if let Some(waiting) = &waiting {
                shared.counted(waiting, written_before);
                metrics
                    .outbox_ops
                    .set(shared.waiting.load(Ordering::Relaxed));
                let bytes = shared.waiting_bytes.load(Ordering::Relaxed);
                metrics.outbox_bytes.set(bytes);
            }
            Input::Counted(waiting)
        });
    }

    /// Hands a message to its links. A link whose channel is full or closed reports it as not
    /// confirmed, as the broker would.
    fn publish(&mut self, id: MessageId, to: &[UnitId], lasts: Lasts, mut body: Body) {
        let trace = self.sent.publish(id, to, &mut body);
        let bytes: Arc<[u8]> = match message::encode(&self.unit, &body) {
            Ok(bytes) => bytes.into(),
            Err(error) => return tracing::error!(%error, "a message has no JSON form"),
        };
        for unit in to {
            let message = Publish {
                id,
                lasts,
                bytes: Arc::clone(&bytes),
                trace,
            };
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let link = self.links.publish.get(unit);
            if link.is_some_and(|link| link.try_send(message).is_ok()) {
                self.parts.metrics.bytes_published.inc_by(size);
                continue;
            }
            let refused = Input::Published(unit.clone(), id, false);
            self.spawn(std::future::ready(refused));
        }
    }

    /// Handles a message of a peer that the machine has no part in.
    fn heard(&mut self, from: UnitId, body: Body) {
        let (parts, term) = (self.parts.clone(), self.term);
        let limit = self.machine.limit(Some(&from));
        self.work.push(Box::pin(async move {
            let from = (from, limit);
            Done::Inputs(crate::sync::gossip::heard(&parts, term, from, body).await)
        }));
    }

    /// Reports a record that is set aside: once in the log, and in the status while there is room.
    pub(super) fn set_aside(&self, from: &UnitId, record: &str, why: &str) {
        let is_new = self.note_status(|status| status.set_aside(from, record, why, now_ms()));
        if is_new {
            tracing::warn!(%from, record, why, "record set aside");
        }
    }

    fn skew(&mut self, unit: UnitId, skew_ms: i64) {
        let alarm = self.skews.measured(&unit, skew_ms);
        match alarm {
            Alarm::Raised => {
                self.parts.metrics.clock_skew_alarms.inc();
                let max_ms = millis(self.settings.skew_max);
                tracing::warn!(
                    %unit, skew_ms, max_ms,
                    "clock skew over the limit: concurrent changes by the slower clock lose"
                );
            }
            Alarm::Cleared => {
                tracing::info!(%unit, skew_ms, "clock skew within the limit again");
            }
            Alarm::On | Alarm::Off => {}
        }
        self.status
            .send_modify(|status| status.skew(&unit, skew_ms, alarm.is_on()));
    }

    /// Measures the replication lag of applied changes.
    fn done(&self, parts: &[(u8, Batch)]) {
        let (wall_ms, now) = (now_ms(), clock::now());
        let mut lags = self.handle.shared.lags();
        for (_, batch) in parts {
            let Batch::Ops { origin, ops, .. } = batch else {
                continue;
            };
            let skew_ms = self.skews.skew_ms(origin);
            // By this unit's clock: the peer's is ahead by the skew.
            let took_ms = |op: &Op| {
                let took_ms = wall_ms.saturating_sub(op.record.version.clock.ms);
                took_ms.saturating_add_signed(skew_ms)
            };
            let each_ms = ops.iter().map(took_ms);
            each_ms.clone().for_each(|ms| lags.took(origin, ms, now));
            self.parts.metrics.unit_lag_seconds.took(origin, each_ms);
        }
    }

    fn note(&self, note: Note, count: u64) {
        let metrics = &self.parts.metrics;
        let counter = match note {
            Note::OpsPublished => &metrics.ops_published,
            Note::WentBack => &metrics.store_went_back,
            Note::Unsendable => &metrics.changes_unsendable,
            Note::Superseded => &metrics.ops_superseded,
            Note::PublishesFailed => &metrics.publishes_failed,
            Note::OpsReceived => &metrics.ops_received,
            Note::RecordsApplied => &metrics.records_applied,
            Note::Gaps => &metrics.sequence_gaps,
            Note::ApplyFailures => &metrics.apply_failures,
            Note::Conflicts => &metrics.conflicts,
            Note::RecordsRefused => &metrics.records_refused,
            Note::Ahead => &metrics.records_set_aside,
            Note::Diverged => &metrics.diverged_buckets,
            Note::Stalled => &metrics.stalled_buckets,
            Note::Skipped => &metrics.skipped_buckets,
            Note::Repaired => &metrics.repaired_records,
            Note::RepairsDropped => &metrics.repairs_dropped,
        };
        counter.inc_by(count);
        if note == Note::Repaired && count > 0 {
            self.status
                .send_modify(|status| status.repaired_records += count);
        }
    }
}
