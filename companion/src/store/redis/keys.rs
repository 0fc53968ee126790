//! Every key, and its content. Redis Cluster hashes only the part in `{…}`: keys that change
//! together share it. [`crate::store::names`] encodes a service's name as a part of a key.

use unitring_protocol::ids::{InstanceId, ServiceName, UnitId};
use unitring_protocol::record::RecordId;

use crate::replica::digest::bucket_of;
use crate::store::names;

/// What unitring keeps at a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Hash,
    SortedSet,
    Stream,
}

impl Kind {
    /// The answer of `TYPE`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Hash => "hash",
            Self::SortedSet => "zset",
            Self::Stream => "stream",
        }
    }
}

/// The keys of a unit.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    unit: UnitId,
}

impl Keys {
    pub(crate) fn of(unit: UnitId) -> Self {
        Self { unit }
    }

    fn of_bucket(&self, bucket: u8, name: &str) -> String {
        format!("unitring:{{{}:{bucket}}}:{name}", self.unit)
    }

    fn of_unit(&self, name: &str) -> String {
        format!("unitring:{{{}}}:{name}", self.unit)
    }

    fn of_service(&self, name: &str, service: &ServiceName) -> String {
        self.of_unit(&format!("{name}:{}", names::encoded(service)))
    }

    /// The keys of a bucket, without those of its records.
    pub(crate) fn of_a_bucket(&self, bucket: u8) -> Vec<(String, Kind)> {
        vec![
            (self.versions(bucket), Kind::Hash),
            (self.meta(bucket), Kind::Hash),
            (self.applied(bucket), Kind::Hash),
            (self.outbox(bucket), Kind::Stream),
            (self.cursors(bucket), Kind::Hash),
            (self.gone(bucket), Kind::SortedSet),
            (self.fence(bucket), Kind::Hash),
            (self.conflicts(bucket), Kind::Stream),
            (self.changes(bucket), Kind::Stream),
        ]
    }

    /// The keys of the unit itself.
    pub(crate) fn of_the_unit(&self) -> Vec<(String, Kind)> {
        vec![
            (self.layout(), Kind::Text),
            (self.identity(), Kind::Text),
            (self.agreement(), Kind::Text),
            (self.leader(), Kind::Text),
            (self.term(), Kind::Text),
            (self.revision(), Kind::Text),
            (self.registry(), Kind::Hash),
            (self.expiry(), Kind::SortedSet),
            (self.reporters(), Kind::SortedSet),
            (self.standing(), Kind::SortedSet),
            (self.hints(), Kind::Stream),
            (self.events(), Kind::Stream),
            (self.events_index(), Kind::Hash),
            (self.fixed_data(), Kind::Hash),
        ]
    }

    /// The keys of the unit and of a service.
    pub(crate) fn of_service_and_unit(&self, service: &ServiceName) -> Vec<(String, Kind)> {
        let mut keys = self.of_the_unit();
        keys.push((self.loads(service), Kind::Hash));
        keys.push((self.totals(service), Kind::Hash));
        keys.push((self.loads_changes(service), Kind::SortedSet));
        keys
    }

    /// string: the value, as any Redis client reads it. Absent for a tombstone.
    pub(crate) fn record(&self, id: &RecordId) -> String {
        self.of_bucket(bucket_of(id), &format!("r:{id}"))
    }

    /// string: [`crate::replica::Stamps`], the data updates of a record that were applied; expires an hour after the
    /// last.
    pub(crate) fn stamps(&self, id: &RecordId) -> String {
        self.of_bucket(bucket_of(id), &format!("u:{id}"))
    }

    /// The prefix of the keys of a bucket's records.
    pub(crate) fn records(&self, bucket: u8) -> String {
        self.of_bucket(bucket, "r:")
    }

    /// hash: `<dataset>/<key>` → `<ms>.<counter>@<unit>`, with `!` behind it for a tombstone, or
    /// `~<ms>` for a record that expires then.
    pub(crate) fn versions(&self, bucket: u8) -> String {
        self.of_bucket(bucket, "versions")
    }

    /// hash: `ms` and `counter` of the clock, `incarnation` and `sequence` of the ops made here,
    /// `changes` (their number), `digest`, and `digest:<epoch>` of records that expire in the
    /// epoch.
    pub(crate) fn meta(&self, bucket: u8) -> String {
        self.of_bucket(bucket, "meta")
    }

    /// hash: unit → `<incarnation>.<sequence>` of the last op applied without a gap; for this unit,
    /// what others have from a store that it lost.
    pub(crate) fn applied(&self, bucket: u8) -> String {
        self.of_bucket(bucket, "applied")
    }

    /// stream: `<sequence>-0` → `id`, `mark` (the version), `value`, `over` (the version before).
    pub(crate) fn outbox(&self, bucket: u8) -> String {
        self.of_bucket(bucket, "outbox")
    }

    /// hash: unit → `<incarnation>.<sequence>` of the last op that the broker confirmed for it.
    pub(crate) fn cursors(&self, bucket: u8) -> String {
        self.of_bucket(bucket, "cursors")
    }

    /// sorted set: `<dataset>/<key>` by when it is gone, in ms: expiring records and tombstones.
    pub(crate) fn gone(&self, bucket: u8) -> String {
        self.of_bucket(bucket, "gone")
    }

    /// hash: unit → the position that every member had reached before tombstones were collected.
    pub(crate) fn fence(&self, bucket: u8) -> String {
        self.of_bucket(bucket, "fence")
    }

    /// stream: `at` (ms), `id`, `lost` and `kept` (versions), `value` (the lost one) if `has` is 1.
    pub(crate) fn conflicts(&self, bucket: u8) -> String {
        self.of_bucket(bucket, "conflicts")
    }

    /// stream: `<number>-0` → `id`, `mark` (the version): the last changes, for watchers.
    pub(crate) fn changes(&self, bucket: u8) -> String {
        self.of_bucket(bucket, "changes")
    }

    /// string: the layout of the keys, [`crate::store::LAYOUT`].
    pub(crate) fn layout(&self) -> String {
        self.of_unit("layout")
    }

    /// string: the identity of what is kept, a number.
    pub(crate) fn identity(&self) -> String {
        self.of_unit("identity")
    }

    /// string: the settings that all companions of the unit must share.
    pub(crate) fn agreement(&self) -> String {
        self.of_unit("agreed")
    }

    /// string: written by every health check; expires after a minute.
    pub(crate) fn probe(&self) -> String {
        self.of_unit("probe")
    }

    /// hash: reporter → its last report on the service, JSON.
    pub(crate) fn loads(&self, service: &ServiceName) -> String {
        self.of_service("loads", service)
    }

    /// sorted set: reporter by the number of its last report on the service; `,last` by the last
    /// number, `,first` by the number before the first.
    pub(crate) fn loads_changes(&self, service: &ServiceName) -> String {
        self.of_service("loads-changes", service)
    }

    /// hash: `<instance> calls`, `<instance> failures` and `<instance> updates` → counter.
    pub(crate) fn totals(&self, service: &ServiceName) -> String {
        self.of_service("totals", service)
    }

    /// sorted set: `<service>/<reporter>` by when it is forgotten, in ms.
    pub(crate) fn reporters(&self) -> String {
        self.of_unit("reporters")
    }

    /// sorted set: `<service>/<reporter>` by its standing: when it last reported, in ms, less ten minutes without
    /// a credential.
    pub(crate) fn standing(&self) -> String {
        self.of_unit("standing")
    }

    /// string: exists while no registered instance may expire.
    pub(crate) fn expiry_held(&self) -> String {
        self.of_unit("expiry-held")
    }

    /// hash: `<service>/<instance>` → registered instance, JSON.
    pub(crate) fn registry(&self) -> String {
        self.of_unit("registry")
    }

    /// sorted set: `<service>/<instance>` by when it expires, in ms.
    pub(crate) fn expiry(&self) -> String {
        self.of_unit("expiry")
    }

    /// string: grows with each change of the registry.
    pub(crate) fn revision(&self) -> String {
        self.of_unit("revision")
    }

    /// stream: `event` → JSON, an entry of the event log.
    pub(crate) fn events(&self) -> String {
        self.of_unit("events")
    }

    /// hash: id of an entry that stands for several events → `<count> <latest time in ms>`; `bytes` and `entries`
    /// of the log up to the entry `last`; `foreign`, the last entry that a companion without this key wrote.
    pub(crate) fn events_index(&self) -> String {
        self.of_unit("events-index")
    }

    /// string: the latest entries of an instance in the event log, as event_log.lua writes them; it expires.
    pub(crate) fn events_latest(&self, service: &ServiceName, instance: &InstanceId) -> String {
        self.of_unit(&format!(
            "events-latest:{}",
            names::within(service, instance)
        ))
    }

    /// string: the companion that leads; it expires.
    pub(crate) fn leader(&self) -> String {
        self.of_unit("leader")
    }

    /// string: the number of the leader's term.
    pub(crate) fn term(&self) -> String {
        self.of_unit("term")
    }

    /// stream: `bucket`: written by a follower.
    pub(crate) fn hints(&self) -> String {
        self.of_unit("hints")
    }

    /// hash: `version`, `checksum` and `count` of the fixed data, and `datasets`, one name a line.
    pub(crate) fn fixed_data(&self) -> String {
        self.of_unit("fixed")
    }

    /// hash: key → value of a dataset of the fixed data.
    pub(crate) fn fixed_dataset(&self, dataset: &str) -> String {
        self.of_unit(&format!("fixed:{dataset}"))
    }
}
