//! What was asked for → records: bucket by bucket, message by message, each confirmed before the
//! next is read.

use std::collections::{BTreeMap, VecDeque};

use unitring_protocol::digest::BucketState;
use unitring_protocol::envelope::Body;
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::Record;

use super::{Effect, MessageId, Note, Purpose, RETRY_MS, Route};
use crate::store::Page;

/// Repairs that wait, over all units that asked.
pub const REPAIRS_MAX: usize = 1_024;
/// Tries after which one is dropped: its asker is gone, or asks again.
const FAILURES_MAX: u32 = 10;

/// One bucket for one unit.
#[derive(Debug)]
struct Job {
    to: UnitId,
    bucket: u8,
    /// Read before the first record; sent with the last.
    positions: BTreeMap<UnitId, u64>,
    page: Page,
    failures: u32,
    step: Step,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    ReadingStates,
    Reading,
    Publishing { id: MessageId, next: Page },
    Pausing { until_ms: u64, states_first: bool },
}

/// What was asked for.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    queue: VecDeque<(UnitId, u8)>,
    job: Option<Job>,
}

impl Repairs {
    /// Queues what is not queued yet; answers how many there was no room for.
    pub(super) fn asked(&mut self, by: &UnitId, buckets: &[u8]) -> u64 {
        let mut dropped = 0;
        for bucket in buckets {
            let entry = (by.clone(), *bucket);
            if self.queue.contains(&entry) {
                continue;
            }
            if self.queue.len() >= REPAIRS_MAX {
                dropped += 1;
                continue;
            }
            self.queue.push_back(entry);
        }
        dropped
    }

    /// The bucket begins anew: what was not confirmed may be lost.
    pub(super) fn link_down(&mut self) {
        if let Some(job) = self.job.take() {
            self.queue.push_front((job.to, job.bucket));
        }
    }

    pub(super) fn go_on(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        let Some(job) = &mut self.job else {
            let Some((to, bucket)) = self.queue.pop_front() else {
                return;
            };
            self.job = Some(Job {
                to,
                bucket,
                positions: BTreeMap::new(),
                page: Page::first(),
                failures: 0,
                step: Step::ReadingStates,
            });
            effects.push(Effect::ReadStates(Purpose::Repair));
            return;
        };
        match job.step {
            Step::Pausing {
                until_ms,
                states_first,
            } if until_ms <= now_ms => {
                if states_first {
                    job.step = Step::ReadingStates;
                    effects.push(Effect::ReadStates(Purpose::Repair));
                } else {
                    job.step = Step::Reading;
                    effects.push(Effect::ReadPage(job.bucket, job.page.clone()));
                }
            }
            _ => {}
        }
    }

    fn failed(&mut self, states_first: bool, now_ms: u64, effects: &mut Vec<Effect>) {
        let Some(job) = &mut self.job else { return };
        job.failures += 1;
        if job.failures >= FAILURES_MAX {
            self.job = None;
            effects.push(Effect::Note(Note::RepairsDropped, 1));
            return;
        }
        job.step = Step::Pausing {
            until_ms: now_ms + RETRY_MS,
            states_first,
        };
    }

    pub(super) fn states_read(
        &mut self,
        states: Option<Vec<BucketState>>,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self
            .job
            .as_mut()
            .filter(|job| job.step == Step::ReadingStates)
        else {
            return;
        };
        let Some(states) = states else {
            return self.failed(true, now_ms, effects);
        };
        let state = states.into_iter().find(|state| state.bucket == job.bucket);
        job.positions = state.unwrap_or_default().positions;
        job.step = Step::Reading;
        effects.push(Effect::ReadPage(job.bucket, job.page.clone()));
    }

    pub(super) fn page_read(
        &mut self,
        page: Option<(Vec<Record>, Page)>,
        id: MessageId,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = self.job.as_mut().filter(|job| job.step == Step::Reading) else {
            return;
        };
        let Some((records, next)) = page else {
            return self.failed(false, now_ms, effects);
        };
        let positions = if next.is_done() {
            job.positions.clone()
        } else {
            BTreeMap::new()
        };
        let body = Body::Repair {
            bucket: job.bucket,
            records,
            positions,
        };
        job.step = Step::Publishing { id, next };
        effects.push(Effect::Publish(id, Route::One(job.to.clone()), body));
    }

    pub(super) fn published(
        &mut self,
        id: MessageId,
        confirmed: bool,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(job) = &mut self.job else { return };
        let next = match &job.step {
            Step::Publishing { id: of, next } if *of == id => next.clone(),
            _ => return,
        };
        if !confirmed {
            return self.failed(false, now_ms, effects);
        }
        if next.is_done() {
            self.job = None;
            return;
        }
        job.page = next;
        job.step = Step::Reading;
        effects.push(Effect::ReadPage(job.bucket, job.page.clone()));
    }
}
