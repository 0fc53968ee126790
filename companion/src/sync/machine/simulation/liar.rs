//! Someone who may publish to the brokers lies: in the name of a member, of a stranger, or of the receiver itself.

use std::collections::{BTreeMap, BTreeSet};

use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::digest::{BucketState, Digest};
use unitring_protocol::envelope::{Body, Envelope, Part, Repair};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Op, Position, Record, RecordId, Value, Version};

use super::super::message;
use super::broken::Broken;
use super::faults::YEAR_2500;
use super::store::{BUCKETS, key};
use super::world::{World, unit};
use crate::replica::bounds::{AHEAD_MS_MAX, EXACT_MAX};
use crate::replica::digest::bucket_of;

/// The first of the keys that only liars write.
const FORGED: u64 = 290;

/// The records that only liars write, with clocks that units take.
pub(super) fn forged() -> impl Iterator<Item = RecordId> {
    (FORGED..FORGED + 3).map(key)
}

/// In whose name someone lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Member,
    Stranger,
    /// That of the unit that receives it.
    Own,
}

impl World {
    /// Sends a lie to a unit.
    pub(super) fn lie(&mut self, at: usize) {
        let name = match self.dice.roll(8) {
            0 => Name::Stranger,
            1 => Name::Own,
            _ => Name::Member,
        };
        let member = (at + 1 + self.dice.place(self.nodes.len() - 1)) % self.nodes.len();
        let body = self.a_lie(at, member, name);
        let from = match name {
            Name::Member => unit(member),
            Name::Own => unit(at),
            Name::Stranger if self.broken == Broken::Strangers => unit(member),
            Name::Stranger => "stranger".parse().unwrap(),
        };
        self.has_lied |= name == Name::Member;
        let envelope = Envelope {
            version: PROTOCOL_VERSION,
            from: from.clone(),
            body,
        };
        let bytes = serde_json::to_vec(&envelope).unwrap();
        let decoded = message::decode(&bytes, &unit(at)).ok();
        let decoded = decoded.map(|(envelope, _)| envelope);
        let envelope = match self.broken {
            Broken::Decode => Some(envelope),
            _ => decoded,
        };
        let queue = &mut self.nodes[at].queue;
        queue.extend(envelope.map(|envelope| (envelope, None)));
    }

    fn a_lie(&mut self, at: usize, member: usize, name: Name) -> Body {
        let bucket = u8::try_from(self.dice.roll(u64::from(BUCKETS))).unwrap();
        let kinds = if name == Name::Member { 6 } else { 3 };
        match self.dice.roll(kinds) {
            0 | 1 => self.lying_ops(at, member, name),
            2 => self.lying_repair(at, name),
            3 => self.lying_digests(at),
            4 => Body::RepairRequest {
                buckets: (0..BUCKETS).collect(),
            },
            _ => Body::Ops {
                parts: vec![Part {
                    bucket,
                    incarnation: self.moment(at),
                    skipped: true,
                    ops: Vec::new(),
                    passed: (1..1 + self.dice.roll(90)).collect(),
                }],
            },
        }
    }

    /// A time that a unit takes for a clock.
    fn near(&mut self, at: usize) -> u64 {
        self.wall_ms(at) + self.dice.roll(AHEAD_MS_MAX - 1_000)
    }

    /// A time that no unit takes for a clock.
    fn far(&mut self, at: usize) -> u64 {
        let wall_ms = self.wall_ms(at);
        match self.dice.roll(6) {
            0 => EXACT_MAX - 1,
            1 => EXACT_MAX,
            2 => u64::MAX,
            3 => wall_ms + 2 * AHEAD_MS_MAX + self.dice.roll(1_000_000),
            _ => YEAR_2500,
        }
    }

    fn moment(&mut self, at: usize) -> u64 {
        match self.dice.roll(3) {
            0 => self.far(at),
            1 => self.near(at),
            _ => 1 + self.dice.roll(10),
        }
    }

    /// A forged change: of a record of its own, or of one that clients write and with a clock of the future. Those of a
    /// stranger would win over the clients' changes.
    fn forge(&mut self, at: usize, name: Name) -> Record {
        let is_own = self.dice.hits(50) && name == Name::Member;
        let (number, ms) = if is_own {
            (FORGED + self.dice.roll(3), self.near(at))
        } else if name == Name::Member {
            (self.dice.roll(self.keys), self.far(at))
        } else {
            (self.dice.roll(self.keys), self.near(at))
        };
        let units = self.nodes.len();
        let unit = unit(self.dice.place(units));
        let counter = match self.dice.hits(50) {
            true => u32::MAX,
            false => 0,
        };
        let expires = is_own && self.dice.hits(20);
        Record {
            id: key(number),
            version: Version {
                clock: Clock { ms, counter },
                unit,
            },
            value: Some(Value(self.dice.roll(1_000_000).to_string().into_bytes())),
            expires_ms: expires.then(|| EXACT_MAX + self.dice.roll(9)),
        }
    }

    fn lying_ops(&mut self, at: usize, member: usize, name: Name) -> Body {
        let record = self.forge(at, name);
        let bucket = bucket_of(&record.id);
        let own = self.nodes[member].store.buckets.get(&bucket);
        let own = own.map(|bucket| bucket.meta.own).unwrap_or_default();
        let (incarnation, sequence) = match self.dice.roll(3) {
            0 => (self.moment(at), 1 + self.dice.roll(3)),
            // In the place of an op that the member will make.
            1 => (own.incarnation, own.sequence + 1 + self.dice.roll(3)),
            _ => (own.incarnation, self.far(at)),
        };
        let passed: BTreeSet<u64> = match self.dice.hits(30) {
            true => (own.sequence.saturating_sub(5)..own.sequence).collect(),
            false => BTreeSet::new(),
        };
        let op = Op {
            sequence,
            record,
            over: None,
            trace: None,
        };
        Body::Ops {
            parts: vec![Part {
                bucket,
                incarnation,
                skipped: self.dice.hits(20),
                ops: vec![op],
                passed,
            }],
        }
    }

    /// Positions of any unit, also of one that does not exist, and beyond what was made.
    fn lying_positions(&mut self, at: usize, bucket: u8) -> BTreeMap<UnitId, Position> {
        let mut positions = BTreeMap::new();
        for number in 0..=self.nodes.len() {
            if self.dice.hits(60) {
                continue;
            }
            let store = self.nodes.get(number).map(|node| &node.store);
            let own = store.and_then(|store| store.buckets.get(&bucket));
            let own = own.map(|bucket| bucket.meta.own).unwrap_or_default();
            let (incarnation, sequence) = match self.dice.roll(4) {
                0 => (self.moment(at), self.far(at)),
                1 => (self.moment(at), self.dice.roll(50)),
                2 => (own.incarnation, own.sequence + self.dice.roll(50)),
                _ => (own.incarnation, self.far(at)),
            };
            positions.insert(
                unit(number),
                Position {
                    incarnation,
                    sequence,
                },
            );
        }
        positions
    }

    fn lying_repair(&mut self, at: usize, name: Name) -> Body {
        let record = self.forge(at, name);
        let bucket = bucket_of(&record.id);
        let clock = Clock {
            ms: self.moment(at),
            counter: u32::MAX,
        };
        Body::Repair(Repair {
            bucket,
            records: vec![record],
            positions: self.lying_positions(at, bucket),
            clock,
            is_last: self.dice.hits(70),
        })
    }

    fn lying_digests(&mut self, at: usize) -> Body {
        let buckets = (0..BUCKETS).map(|bucket| BucketState {
            bucket,
            digest: Digest(self.dice.roll(1_000)),
            positions: self.lying_positions(at, bucket),
        });
        let buckets = buckets.collect();
        Body::Digests {
            sent_ms: self.moment(at),
            interval_ms: Some(self.moment(at)),
            epoch: self.dice.roll(5),
            echoes: Vec::new(),
            fixed: None,
            store: Some(self.dice.roll(9)),
            buckets,
        }
    }
}
