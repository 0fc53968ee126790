//! Requested buckets → records: bucket by bucket, message by message. Each message is confirmed
//! before the next page is read, and the rate limit holds over all of them.

use std::collections::{BTreeMap, VecDeque};

use unitring_protocol::envelope::{Body, Repair};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Position, Record, RecordId};

use super::message::json_bytes;
use super::outgoing::Outgoing;
use super::{Effect, Lasts, MessageId, Moment, Note, Purpose, RETRY_MS, count};
use crate::store::{Held, Mark, Page};

/// Most repairs that wait, over all requesters.
pub(crate) const REPAIRS_MAX: usize = 1_024;
/// Failures after which a repair is dropped: its requester is gone, or asks again.
const FAILURES_MAX: u32 = 10;
/// Most bytes of a repair's message beside its records.
const REPAIR_HEAD_BYTES: usize = 16 << 10;
/// The rate limit allows a burst of the records of this many milliseconds.
const BURST_MS: u64 = 1_000;

/// The repair of one bucket for one unit.
#[derive(Debug)]
struct Job {
    to: UnitId,
    bucket: u8,
    /// Our positions, read before the first record.
    positions: BTreeMap<UnitId, Position>,
    clock: Clock,
    page: Page,
    /// Records that were read and are not sent yet.
    rest: Vec<Record>,
    failures: u32,
    step: Step,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    ReadingStates,
    /// Reads the states or the next page, once it is time.
    Waiting {
        until_ms: u64,
        states_first: bool,
    },
    Reading,
    Publishing {
        id: MessageId,
        next: Page,
    },
}

impl Job {
    /// Publishes as many of the records as the unit's broker takes in a message. Records that are
    /// too large alone are left out and named: the bucket stays different, and the comparison shows it.
    fn send(&mut self, id: MessageId, next: Page, links: &mut Outgoing, effects: &mut Vec<Effect>) {
        let mut records = std::mem::take(&mut self.rest);
        if let Some(limit) = links.limit(std::slice::from_ref(&self.to)) {
            let large = leave_out(&mut records, limit);
            let to = std::slice::from_ref(&self.to);
            links.note_unsendable(to, records.iter().map(|it| &it.id), &large, effects);
            effects.push(Effect::Note(Note::Unsendable, count(large.len())));
            let limit = limit.saturating_sub(REPAIR_HEAD_BYTES);
            let mut bytes = 0_usize;
            let fitting = records.iter().take_while(|record| {
                bytes = bytes.saturating_add(json_bytes(record) + 1);
                bytes <= limit
            });
            let fitting = fitting.count().max(1).min(records.len());
            self.rest = records.split_off(fitting);
        }
        let repair = Repair {
            bucket: self.bucket,
            records,
            positions: self.positions.clone(),
            clock: self.clock,
            is_last: next.is_done() && self.rest.is_empty(),
        };
        self.step = Step::Publishing { id, next };
        effects.push(Effect::Publish {
            id,
            to: vec![self.to.clone()],
            lasts: Lasts::UntilRead,
            body: Body::Repair(repair),
        });
    }
}

/// Leaves out records that no message under this limit can hold; returns their names with the sizes in a message.
fn leave_out(records: &mut Vec<Record>, limit: usize) -> Vec<(RecordId, usize)> {
    let mut large = Vec::new();
    records.retain(|record| {
        let bytes = json_bytes(record).saturating_add(REPAIR_HEAD_BYTES);
        if bytes > limit {
            large.push((record.id.clone(), bytes));
        }
        bytes <= limit
    });
    large
}

/// The repairs that peers requested.
#[derive(Debug)]
pub(super) struct Repairs {
    queue: VecDeque<(UnitId, u8)>,
    job: Option<Job>,
    /// Whether a read of a job that ended is under way. The next job waits for its answer, which it would take for its
    /// own: records of one bucket would go out as those of another.
    reads_for_none: bool,
    /// Records per second; 0 is no limit.
    rate: u64,
    /// Thousandths of records that may be sent now, and the time of that value.
    allowed: u64,
    allowed_ms: u64,
}

impl Repairs {
    pub(super) fn new(rate: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            job: None,
            reads_for_none: false,
            rate,
            allowed: rate.saturating_mul(BURST_MS),
            allowed_ms: 0,
        }
    }

    /// Queues buckets that are not queued yet; returns how many were dropped for lack of room.
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

    /// The bucket starts over later: messages without a confirm may be lost.
    pub(super) fn link_down(&mut self, unit: &UnitId) {
        if let Some(job) = self.job.take_if(|job| job.to == *unit) {
            self.reads_for_none = matches!(job.step, Step::ReadingStates | Step::Reading);
            self.queue.push_back((job.to, job.bucket));
        }
    }

    pub(super) fn go_on(
        &mut self,
        links: &mut Outgoing,
        now_ms: u64,
        next: impl FnOnce() -> MessageId,
        effects: &mut Vec<Effect>,
    ) {
        let passed = now_ms.saturating_sub(self.allowed_ms).min(BURST_MS);
        self.allowed_ms = now_ms;
        let burst = self.rate.saturating_mul(BURST_MS);
        let more = self.rate.saturating_mul(passed);
        self.allowed = self.allowed.saturating_add(more).min(burst);
        let Some(job) = &mut self.job else {
            if self.reads_for_none {
                return;
            }
            // A peer that cannot be reached holds up no other.
            let next = self.queue.iter().position(|(unit, _)| links.is_up(unit));
            let Some((to, bucket)) = next.and_then(|next| self.queue.remove(next)) else {
                return;
            };
            self.job = Some(Job {
                to,
                bucket,
                positions: BTreeMap::new(),
                clock: Clock::default(),
                page: Page::first(),
                rest: Vec::new(),
                failures: 0,
                step: Step::ReadingStates,
            });
            effects.push(Effect::ReadStates(Purpose::Repair));
            return;
        };
        if let Step::Waiting {
            until_ms,
            states_first,
        } = job.step
            && until_ms <= now_ms
            && (self.allowed > 0 || self.rate == 0)
        {
            if !job.rest.is_empty() {
                let page = job.page.clone();
                job.send(next(), page, links, effects);
            } else if states_first {
                job.step = Step::ReadingStates;
                effects.push(Effect::ReadStates(Purpose::Repair));
            } else {
                job.step = Step::Reading;
                effects.push(Effect::ReadPage(job.bucket, job.page.clone()));
            }
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
        job.step = Step::Waiting {
            until_ms: now_ms + RETRY_MS,
            states_first,
        };
    }

    pub(super) fn states_read(
        &mut self,
        states: Option<Vec<Held>>,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        if std::mem::take(&mut self.reads_for_none) {
            return;
        }
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
        let held = states
            .into_iter()
            .find(|held| held.state.bucket == job.bucket);
        let held = held.unwrap_or_default();
        job.positions = held.state.positions;
        job.clock = held.clock;
        job.step = Step::Reading;
        effects.push(Effect::ReadPage(job.bucket, job.page.clone()));
    }

    pub(super) fn page_read(
        &mut self,
        page: Option<(Vec<Record>, Page)>,
        id: MessageId,
        (links, moment): (&mut Outgoing, Moment),
        effects: &mut Vec<Effect>,
    ) {
        if std::mem::take(&mut self.reads_for_none) {
            return;
        }
        let Some(job) = self.job.as_mut().filter(|job| job.step == Step::Reading) else {
            return;
        };
        let Some((mut records, next)) = page else {
            return self.failed(false, moment.now_ms, effects);
        };
        // A live record whose value the store already dropped, by a clock ahead of ours: a missing
        // value is not an empty one.
        records
            .retain(|record| record.value.is_some() || !Mark::of(record).is_live(moment.wall_ms));
        let spent = count(records.len()).saturating_mul(1_000);
        self.allowed = self.allowed.saturating_sub(spent);
        job.rest = records;
        job.send(id, next, links, effects);
    }

    pub(super) fn published(&mut self, id: MessageId, confirmed: bool, now_ms: u64) {
        let Some(job) = &mut self.job else { return };
        let next = match &job.step {
            Step::Publishing { id: of, next } if *of == id => next.clone(),
            _ => return,
        };
        if !confirmed {
            // The peer's queue is full or gone: try later, after the other repairs.
            if let Some(job) = self.job.take() {
                self.queue.push_back((job.to, job.bucket));
            }
            return;
        }
        if next.is_done() && job.rest.is_empty() {
            self.job = None;
            return;
        }
        job.page = next;
        job.step = Step::Waiting {
            until_ms: now_ms,
            states_first: false,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::Backlog;

    fn links(peer: &UnitId) -> Outgoing {
        let mut links = Outgoing::new(&BTreeSet::from([peer.clone()]), Backlog::default());
        links.link_up(peer);
        links
    }

    fn held(bucket: u8) -> Held {
        let mut held = Held::default();
        held.state.bucket = bucket;
        held
    }

    #[test]
    fn a_page_that_comes_after_its_link_went_down_is_not_sent_as_another_buckets() {
        let west: UnitId = "west".parse().unwrap();
        let (mut repairs, mut links) = (Repairs::new(0), links(&west));
        let mut effects = Vec::new();
        repairs.asked(&west, &[7, 8]);
        repairs.go_on(&mut links, 0, || 1, &mut effects);
        repairs.states_read(Some(vec![held(7)]), 0, &mut effects);
        assert_eq!(effects.pop(), Some(Effect::ReadPage(7, Page::first())));
        // The page of bucket 7 is still being read when bucket 8 is due.
        repairs.link_down(&west);
        effects.clear();
        repairs.go_on(&mut links, 0, || 2, &mut effects);
        assert_eq!(effects, []);
        let page = Page {
            listed: Vec::new(),
            more: None,
        };
        let moment = Moment::default();
        repairs.page_read(
            Some((Vec::new(), page)),
            3,
            (&mut links, moment),
            &mut effects,
        );
        assert_eq!(effects, []);
        repairs.go_on(&mut links, 0, || 4, &mut effects);
        assert_eq!(effects, [Effect::ReadStates(Purpose::Repair)]);
    }
}
