//! Updates → batches, one under way at a time, in the order in which the instances answered.
//!
//! Invariants: at most [`Bounds::updates`] updates and [`Bounds::bytes`] bytes are here; each update
//! leaves once, with its [`Fate`].
//!
//! One batch at a time keeps the order, and while one is under way the next one fills, so that a
//! slow companion gets fewer and larger batches. Where answers wait for their updates, a batch that
//! fails ends them, and so does their deadline. Where they do not, updates stay until a batch with
//! them succeeds, and the oldest make room for new ones.

use std::collections::{BTreeMap, VecDeque};

use unitring_protocol::updates::{Failed, UPDATES_MAX, Update};

/// Bytes of one batch, unless one update alone has more.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// The approximate size of an update beside its value and its names.
const OVERHEAD_BYTES: usize = 128;
/// The first pause after a failure; each further one is twice as long.
const PAUSE_MS_MIN: u64 = 250;
/// The longest pause.
const PAUSE_MS_MAX: u64 = 5_000;

/// An update on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<T> {
    /// The update.
    pub update: Update,
    /// When it is too late, in ms since the Unix epoch.
    pub deadline_ms: u64,
    /// The caller's handle by which it learns the update's fate.
    pub teller: T,
}

impl<T> Entry<T> {
    /// Bytes of the value.
    pub fn value_bytes(&self) -> usize {
        self.update.value.as_ref().map_or(0, |value| value.0.len())
    }

    fn bytes(&self) -> usize {
        let names = self.update.key.as_str().len() + self.update.dataset.as_str().len();
        OVERHEAD_BYTES
            .saturating_add(names)
            .saturating_add(self.value_bytes())
    }
}

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Updates.
    pub updates: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// The outcome of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The companion has it, durably.
    Stored,
    /// The companion will never take it.
    Refused(String),
    /// The companion did not get it.
    Dropped(Loss),
}

/// Why the companion did not get an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Too many updates wait.
    Full,
    /// Its time is over.
    Late,
    /// The companion cannot be reached, or did not take it now.
    Unavailable(String),
}

/// The updates of one service in one VM.
#[derive(Debug)]
pub struct Queue<T> {
    /// Whether updates stay here after a failure.
    keeps: bool,
    bounds: Bounds,
    entries: VecDeque<Entry<T>>,
    bytes: usize,
    /// How many of the first entries are under way.
    under_way: usize,
    /// How many updates the next batch may have: half as many after one without an answer, twice as many after
    /// one with an answer, so that a slow companion can answer in time.
    batch_max: usize,
    pause_ms: u64,
    /// No batch leaves before this time.
    pause_until_ms: u64,
}

impl<T> Queue<T> {
    /// An empty queue. With `keeps`, updates stay until they are stored.
    pub fn new(keeps: bool, bounds: Bounds) -> Self {
        Self {
            keeps,
            bounds,
            entries: VecDeque::new(),
            bytes: 0,
            under_way: 0,
            batch_max: UPDATES_MAX,
            pause_ms: 0,
            pause_until_ms: 0,
        }
    }

    /// The number of updates in the queue.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the updates here.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an update. Returns the updates that it evicted; the new one may be among them.
    pub fn push(&mut self, entry: Entry<T>) -> Vec<(Entry<T>, Fate)> {
        let (mut gone, bytes) = (Vec::new(), entry.bytes());
        let fits = |queue: &Self| {
            queue.entries.len() < queue.bounds.updates
                && queue.bytes.saturating_add(bytes) <= queue.bounds.bytes
        };
        // An update that cannot fit evicts nothing, and neither does one that an answer waits for.
        let makes_room = self.keeps && bytes <= self.bounds.bytes;
        while !fits(self) {
            // Updates under way stay: their fate is not known.
            let oldest = makes_room.then(|| self.remove(self.under_way)).flatten();
            let Some(oldest) = oldest else {
                gone.push((entry, Fate::Dropped(Loss::Full)));
                return gone;
            };
            gone.push((oldest, Fate::Dropped(Loss::Full)));
        }
        self.bytes = self.bytes.saturating_add(entry.bytes());
        self.entries.push_back(entry);
        gone
    }

    fn remove(&mut self, at: usize) -> Option<Entry<T>> {
        let entry = self.entries.remove(at)?;
        self.bytes = self.bytes.saturating_sub(entry.bytes());
        Some(entry)
    }

    /// Whether a batch may leave.
    pub fn is_ready(&self, now_ms: u64) -> bool {
        // A clock that was set back does not stop the queue.
        let pauses = now_ms < self.pause_until_ms
            && self.pause_until_ms.saturating_sub(now_ms) <= PAUSE_MS_MAX;
        self.under_way == 0 && !self.entries.is_empty() && !pauses
    }

    /// The next batch, which is under way from now on.
    pub fn batch(&mut self) -> impl Iterator<Item = &Update> {
        let mut bytes = 0_usize;
        let fitting = self.entries.iter().take_while(|entry| {
            bytes = bytes.saturating_add(entry.bytes());
            bytes <= BATCH_BYTES_MAX
        });
        self.under_way = fitting.take(self.batch_max).count().max(1);
        let batch = self.entries.iter().take(self.under_way);
        batch.map(|entry| &entry.update)
    }

    /// The batch failed as a whole, or nothing is known of it.
    pub fn failed(&mut self, why: &str, now_ms: u64) -> Vec<(Entry<T>, Fate)> {
        let count = std::mem::take(&mut self.under_way);
        self.batch_max = (count / 2).max(1);
        if self.keeps {
            self.pause(now_ms);
            return Vec::new();
        }
        let lost = || Fate::Dropped(Loss::Unavailable(why.to_owned()));
        let gone = (0..count).filter_map(|_| Some((self.remove(0)?, lost())));
        gone.collect()
    }

    /// The companion will never take the batch, be it for one of its updates: each of them is tried alone before
    /// it is given up.
    pub fn refused(&mut self, why: &str, now_ms: u64) -> Vec<(Entry<T>, Fate)> {
        if self.under_way > 1 {
            return self.failed(why, now_ms);
        }
        let batch = self.entries.iter().take(self.under_way);
        let failed = batch.map(|entry| Failed {
            sequence: entry.update.sequence,
            status: 400,
            error: why.to_owned(),
        });
        let failed = failed.collect();
        self.answered(failed, now_ms)
    }

    fn pause(&mut self, now_ms: u64) {
        let longer = self.pause_ms.saturating_mul(2);
        self.pause_ms = longer.clamp(PAUSE_MS_MIN, PAUSE_MS_MAX);
        self.pause_until_ms = now_ms.saturating_add(self.pause_ms);
    }

    /// The companion answered for the batch: `failed` are not stored, all others are.
    pub fn answered(&mut self, failed: Vec<Failed>, now_ms: u64) -> Vec<(Entry<T>, Fate)> {
        self.batch_max = self.batch_max.saturating_mul(2).min(UPDATES_MAX);
        let failed = failed.into_iter();
        let mut failed: BTreeMap<u64, Failed> =
            failed.map(|failed| (failed.sequence, failed)).collect();
        let (mut gone, mut at) = (Vec::new(), 0);
        for _ in 0..std::mem::take(&mut self.under_way) {
            let sequence = self.entries.get(at).map(|entry| entry.update.sequence);
            let failed = sequence.and_then(|sequence| failed.remove(&sequence));
            let fate = match failed {
                None => Fate::Stored,
                Some(failed) if failed.status < 500 => Fate::Refused(failed.error),
                Some(_) if self.keeps => {
                    at += 1;
                    continue;
                }
                Some(failed) => Fate::Dropped(Loss::Unavailable(failed.error)),
            };
            gone.extend(self.remove(at).map(|entry| (entry, fate)));
        }
        if at > 0 {
            self.pause(now_ms);
        } else {
            (self.pause_ms, self.pause_until_ms) = (0, 0);
        }
        gone
    }

    /// Removes updates that are too late and not under way.
    pub fn expire(&mut self, now_ms: u64) -> Vec<(Entry<T>, Fate)> {
        let (mut gone, mut at) = (Vec::new(), self.under_way);
        while let Some(entry) = self.entries.get(at) {
            if entry.deadline_ms > now_ms {
                at += 1;
                continue;
            }
            let late = self.remove(at);
            gone.extend(late.map(|entry| (entry, Fate::Dropped(Loss::Late))));
        }
        gone
    }
}

#[cfg(test)]
mod tests;
