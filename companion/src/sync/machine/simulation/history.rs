//! What each unit knew of a record when it changed it, apart from the code under test: two changes are concurrent
//! if neither's unit knew the other one.

use std::collections::BTreeMap;

use unitring_protocol::record::{Record, RecordId, Version};

use super::store::Store;
use crate::replica::digest::bucket_of;
use crate::store::Batch;

/// Changes of one record that are told apart; later ones are not judged.
const JUDGED: usize = 128;

/// A set of changes of one record, by their numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changes(u128);

impl Changes {
    fn with(self, number: usize) -> Self {
        Self(self.0 | (1 << number))
    }

    fn has(self, number: usize) -> bool {
        self.0 & (1 << number) != 0
    }
}

/// A change that a unit made.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) record: Record,
    /// What the unit had then.
    pub(super) over: Option<Version>,
    knew: Changes,
}

/// What a store saw of each record. It is lost and goes back with the store.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    known: BTreeMap<RecordId, Changes>,
    /// Changes that came as ops.
    ops: BTreeMap<RecordId, Changes>,
}

impl Seen {
    /// A bucket goes back to what it had seen before.
    pub(super) fn go_back(&mut self, before: &Self, number: u8) {
        for (now, before) in [
            (&mut self.known, &before.known),
            (&mut self.ops, &before.ops),
        ] {
            now.retain(|id, _| bucket_of(id) != number);
            let of = before.iter().filter(|(id, _)| bucket_of(id) == number);
            now.extend(of.map(|(id, seen)| (id.clone(), *seen)));
        }
    }
}

/// Every change of a run.
#[derive(Debug, Default)]
pub(super) struct History {
    made: BTreeMap<RecordId, Vec<Made>>,
}

impl History {
    pub(super) fn number(&self, id: &RecordId, version: &Version) -> Option<usize> {
        let made = self.made.get(id)?;
        made.iter()
            .rposition(|made| made.record.version == *version)
    }

    pub(super) fn made(&self, id: &RecordId, version: &Version) -> Option<&Made> {
        let number = self.number(id, version)?;
        self.made.get(id)?.get(number)
    }

    /// A unit with this store made a change.
    pub(super) fn make(&mut self, seen: &mut Seen, record: Record, over: Option<Version>) {
        let known = seen.known.entry(record.id.clone()).or_default();
        let made = self.made.entry(record.id.clone()).or_default();
        if made.len() >= JUDGED {
            return;
        }
        let knew = *known;
        *known = known.with(made.len());
        made.push(Made { record, over, knew });
    }

    /// A record of the future gets a version of now: changes that came meanwhile were older than it and are not there,
    /// although they may be later than the new version.
    pub(super) fn again(&self, seen: &mut Seen, id: &RecordId, over: &Version) {
        if let Some(number) = self.number(id, over) {
            let knew = self.made[id][number].knew;
            seen.known.insert(id.clone(), knew.with(number));
            seen.ops.remove(id);
        }
    }

    /// A change came to a store, with all that its unit knew.
    fn see(&self, seen: &mut Seen, id: &RecordId, version: &Version) {
        let Some(number) = self.number(id, version) else {
            return;
        };
        let knew = self.made[id][number].knew;
        let known = seen.known.entry(id.clone()).or_default();
        *known = Changes(known.0 | knew.0).with(number);
    }

    /// A store applied a batch: it has seen what is there now, and what lost to that.
    pub(super) fn applied(&self, store: &mut Store, (number, batch): &(u8, Batch)) {
        let (records, is_op): (Vec<&Record>, bool) = match batch {
            Batch::Ops { ops, .. } => (ops.iter().map(|op| &op.record).collect(), true),
            Batch::Records { records, .. } => (records.iter().collect(), false),
        };
        for Record { id, version, .. } in records {
            let Some(known) = self.number(id, version) else {
                continue;
            };
            if store
                .version(*number, id)
                .is_none_or(|there| there < *version)
            {
                continue;
            }
            self.see(&mut store.seen, id, version);
            if is_op {
                let ops = store.seen.ops.entry(id.clone()).or_default();
                *ops = ops.with(known);
            }
        }
    }

    /// Whether a change came as an op before.
    pub(super) fn came(&self, seen: &Seen, id: &RecordId, version: &Version) -> bool {
        let number = self.number(id, version);
        let ops = seen.ops.get(id).copied().unwrap_or_default();
        number.is_some_and(|number| ops.has(number))
    }

    /// Whether neither unit knew the other's change; `None` if one of them is not in the history.
    pub(super) fn are_concurrent(
        &self,
        id: &RecordId,
        one: &Version,
        other: &Version,
    ) -> Option<bool> {
        let (one, other) = (self.number(id, one)?, self.number(id, other)?);
        let made = self.made.get(id)?;
        Some(!made[one].knew.has(other) && !made[other].knew.has(one))
    }
}
