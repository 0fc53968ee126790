//! Random histories of a bucket through two stores: their answers and their contents are the same. The
//! embedded store calls [`crate::replica`]; Redis' scripts decide in Lua, and are compared with it here.

use std::collections::BTreeMap;

use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Op, Position, Record, RecordId, Value, Version};

use super::records::{all, id};
use crate::replica::bounds::{AHEAD_MS_MAX, EXACT_MAX};
use crate::replica::digest::bucket_of;
use crate::replica::{Source, Stamp};
use crate::store::{Batch, Change, Condition, Outcome, Recounted, Store};

/// Keys of the bucket.
const KEYS: usize = 5;
/// Changes of one history.
const STEPS: usize = 40;

/// A small generator (xorshift64*): a seed is a history that can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
}

/// One history on one bucket of two stores of the same unit; both hold nothing in it yet.
struct History<'a, A, B> {
    rust: &'a A,
    other: &'a B,
    own: UnitId,
    dice: Dice,
    bucket: u8,
    keys: Vec<RecordId>,
    now_ms: u64,
    last: Vec<Version>,
}

/// Runs one history on both; panics if they differ. `dataset` is new to both, and so is its bucket as far
/// as the comparison goes. Redis lets values expire by its own clock: so `now_ms` must be about now.
pub async fn differential<A, B>(rust: &A, other: &B, (own, seed, now_ms): (&str, u64, u64))
where
    A: Store,
    B: Store,
{
    let first = id("d", &format!("{seed}"));
    let bucket = bucket_of(&first);
    let names = (0..).map(|number| id("d", &format!("{seed}/{number}")));
    let keys = names.filter(|id| bucket_of(id) == bucket).take(KEYS);
    let mut history = History {
        rust,
        other,
        own: own.parse().unwrap(),
        dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
        bucket,
        keys: keys.collect(),
        now_ms,
        last: Vec::new(),
    };
    if seed % 5 == 0 {
        history.begun_in_the_future().await;
    }
    for step in 0..STEPS {
        history.now_ms += history.dice.roll(4);
        let what = match history.dice.roll(10) {
            0..5 => history.write().await,
            5..8 => history.ops().await,
            8 => history.records().await,
            _ if history.dice.roll(4) == 0 => history.way_back().await,
            _ => history.collect().await,
        };
        let what = format!("seed {seed}, step {step}: {what}");
        history.is_the_same(&what).await;
    }
}

impl<A: Store, B: Store> History<'_, A, B> {
    async fn write(&mut self) -> String {
        let (id, value) = (self.dice.one(&self.keys).clone(), self.value());
        let expires_ms = self.expiry();
        let change = match &value {
            _ if self.dice.roll(12) == 0 => Change::Again,
            Some(value) => Change::Put { value, expires_ms },
            None => Change::Delete,
        };
        let condition = match self.dice.roll(8) {
            6..8 => Condition::After(self.stamp()),
            0 => Condition::Present,
            3 => Condition::OneOf(self.last.iter().rev().take(2).cloned().collect()),
            1 => Condition::Absent,
            2 if !self.last.is_empty() => Condition::Version(self.dice.one(&self.last).clone()),
            _ => Condition::Any,
        };
        let what = format!("{id}: {change:?} {condition:?}");
        let mine = self.rust.write_if(&id, change, &condition, self.now_ms);
        let mine = mine.await.map_err(|error| error.to_string());
        let theirs = self.other.write_if(&id, change, &condition, self.now_ms);
        let theirs = theirs.await.map_err(|error| error.to_string());
        assert_eq!(mine, theirs, "{what}");
        if let Ok(Outcome::Done(written)) = mine {
            self.last.push(written.version);
        }
        what
    }

    /// Few, so that many are repeated or overtaken.
    fn stamp(&mut self) -> Stamp {
        let source = self.dice.one(&["a", "b", "c"]);
        Stamp {
            source: Source::of("client", source),
            sequence: *self.dice.one(&[9, 10, 11, EXACT_MAX - 1]),
            vm: *self.dice.one(&[0, 9, 10, u64::MAX]),
        }
    }

    async fn ops(&mut self) -> String {
        let origin = self.unit(false);
        let first = 1 + self.dice.roll(6);
        let count = 1 + self.dice.roll(3);
        let ops = (0..count).map(|number| Op {
            sequence: first + number,
            record: self.record(),
            over: (self.dice.roll(3) > 0).then(|| self.version()),
            trace: None,
        });
        let ops = ops.collect();
        let incarnation = self.incarnation();
        let passed = (0..self.dice.roll(3)).map(|_| 1 + self.dice.roll(9));
        let passed = passed.collect();
        self.apply(Batch::Ops {
            origin,
            incarnation,
            ops,
            passed,
        })
        .await
    }

    async fn records(&mut self) -> String {
        let count = self.dice.roll(4);
        let batch = Batch::Records {
            records: (0..count).map(|_| self.record()).collect(),
            positions: self.positions(),
            clock: Clock {
                ms: self.moment(),
                counter: 3,
            },
            is_last: self.dice.roll(2) == 0,
        };
        self.apply(batch).await
    }

    async fn apply(&mut self, batch: Batch) -> String {
        let what = format!("{batch:?}");
        let parts = [(self.bucket, batch)];
        let mine = self.rust.apply(&parts, self.now_ms).await.unwrap();
        let theirs = self.other.apply(&parts, self.now_ms).await.unwrap();
        assert_eq!(mine, theirs, "{what}");
        what
    }

    async fn way_back(&mut self) -> String {
        // By a clock that is far behind, all clocks are of the future.
        let now_ms = self.now_ms - 2 * AHEAD_MS_MAX * self.dice.roll(2);
        let mine = self.rust.reset_clocks(now_ms).await.unwrap();
        let theirs = self.other.reset_clocks(now_ms).await.unwrap();
        let is_reset = |reset: &[u8]| reset.contains(&self.bucket);
        assert_eq!(is_reset(&mine), is_reset(&theirs));
        let wrong = self.rust.recount(self.bucket, self.now_ms).await.unwrap();
        assert_eq!(wrong, Recounted::default());
        assert_eq!(
            wrong,
            self.other.recount(self.bucket, self.now_ms).await.unwrap()
        );
        "the way back".to_owned()
    }

    /// The first write is made by a clock of the future.
    async fn begun_in_the_future(&mut self) {
        let now_ms = self.now_ms;
        self.now_ms += 31_536_000_000;
        let what = self.write().await;
        self.now_ms = now_ms;
        self.is_the_same(&what).await;
        self.way_back().await;
    }

    async fn collect(&mut self) -> String {
        let (before_ms, fence) = (self.now_ms - self.dice.roll(20), self.positions());
        let mine = self.rust.collect(self.bucket, before_ms, &fence).await;
        let theirs = self.other.collect(self.bucket, before_ms, &fence).await;
        let what = format!("collect before {before_ms}: {fence:?}");
        assert_eq!(mine.unwrap(), theirs.unwrap(), "{what}");
        what
    }

    /// The visible state of the bucket.
    async fn is_the_same(&self, what: &str) {
        let bucket = self.bucket;
        let held = async |store: &dyn Store| {
            let states = store.states(self.now_ms).await.unwrap();
            states.into_iter().find(|held| held.state.bucket == bucket)
        };
        assert_eq!(held(self.rust).await, held(self.other).await, "{what}");
        let records = async |store: &dyn Store| {
            let mut records = all(store, bucket).await;
            // The file keeps a value that has expired until it is freed; Redis frees it by its own clock.
            for record in &mut records {
                record.value = record.live(self.now_ms).cloned();
            }
            records
        };
        let (mine, theirs) = (records(self.rust).await, records(self.other).await);
        assert_eq!(mine, theirs, "{what}");
        let changes = self.rust.changes(bucket, 0).await.unwrap();
        assert_eq!(
            changes,
            self.other.changes(bucket, 0).await.unwrap(),
            "{what}"
        );
        let asked = [(bucket, Position::default())];
        let waiting = self.rust.outboxes(&asked).await.unwrap();
        assert_eq!(
            waiting,
            self.other.outboxes(&asked).await.unwrap(),
            "{what}"
        );
        let conflicts = async |store: &dyn Store| {
            let found = store.conflicts(10_000).await.unwrap();
            let ours = found
                .into_iter()
                .filter(|it| bucket_of(&it.record) == bucket);
            let mut texts: Vec<String> = ours.map(|it| format!("{it:?}")).collect();
            texts.sort();
            texts
        };
        let (mine, theirs) = (conflicts(self.rust).await, conflicts(self.other).await);
        assert_eq!(mine, theirs, "{what}");
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        match self.dice.roll(6) {
            0 | 1 => None,
            2 => Some(Vec::new()),
            3 => Some(vec![0xff; 1_025]),
            _ => Some(self.dice.roll(1_000).to_string().into_bytes()),
        }
    }

    /// Long before or long after now: an expiry in between would depend on which clock decides.
    fn expiry(&mut self) -> Option<u64> {
        match self.dice.roll(5) {
            0 => Some(self.now_ms - 60_000 - self.dice.roll(10_000_000)),
            1 => Some(self.now_ms + 3_600_000 + self.dice.roll(10_000_000)),
            _ => None,
        }
    }

    fn record(&mut self) -> Record {
        let value = self.value().map(Value);
        let expires_ms = self.expiry().filter(|_| value.is_some());
        // Once in a while the value is lost.
        let value = value.filter(|_| expires_ms.is_none() || self.dice.roll(4) > 0);
        Record {
            id: self.dice.one(&self.keys).clone(),
            version: self.version(),
            value,
            expires_ms,
        }
    }

    fn unit(&mut self, may_be_own: bool) -> UnitId {
        let own = self.own.as_str();
        let names = ["north", "West", "a", own];
        let count = names.len() - usize::from(!may_be_own);
        self.dice.one(&names[..count]).parse().unwrap()
    }

    /// About now, sometimes in the future: at its edge, or far.
    fn moment(&mut self) -> u64 {
        match self.dice.roll(25) {
            0 => self.now_ms + AHEAD_MS_MAX + self.dice.roll(3),
            1 => EXACT_MAX - 1 - self.dice.roll(3),
            _ => self.now_ms + self.dice.roll(30) - 20,
        }
    }

    fn incarnation(&mut self) -> u64 {
        match self.dice.roll(25) {
            0 => self.moment(),
            _ => self.now_ms / 1_000_000 * 1_000_000 + self.dice.roll(2),
        }
    }

    fn version(&mut self) -> Version {
        if self.dice.roll(3) == 0 && !self.last.is_empty() {
            return self.dice.one(&self.last).clone();
        }
        let clock = Clock {
            ms: self.moment(),
            counter: u32::try_from(self.dice.roll(12)).unwrap(),
        };
        let unit = self.unit(true);
        Version { clock, unit }
    }

    fn positions(&mut self) -> BTreeMap<UnitId, Position> {
        let count = self.dice.roll(4);
        let positions = (0..count).map(|_| {
            let position = Position {
                incarnation: self.incarnation(),
                sequence: self.dice.roll(9),
            };
            (self.unit(true), position)
        });
        positions.collect()
    }
}
