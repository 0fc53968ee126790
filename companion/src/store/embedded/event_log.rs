//! The event log in the file, as event_log.lua keeps it in Redis.
//!
//! `event_bytes` counts the bytes of the entries up to the number in `event_counted`. An older program changes neither:
//! then the next write recounts all entries, and no event joins an entry from before, since a contrary one of the older
//! program may lie between.

use redb::{ReadableTable as _, ReadableTableMetadata as _, Table, WriteTransaction};

use super::tables::{EVENTS, LATEST, NUMBERS};
use super::{away, decode, encode};
use crate::events::merging::{Latest, Sketch};
use crate::events::{Entry, Event};
use crate::store::event_log::{LATEST_INSTANCES_MAX, TRIMMED_MAX};
use crate::store::names::within;
use crate::store::{EVENTS_BYTES_MAX, LogSize, Logged, StoreError};

/// The log within a transaction.
struct Log<'a> {
    numbers: Table<'a, &'static str, u64>,
    entries: Table<'a, u64, &'static str>,
    latest: Table<'a, &'static str, &'static str>,
    last: u64,
    bytes: u64,
}

/// Logs events. Of the events that need an entry of their own, it logs only as many as fit into `room` bytes.
pub(super) fn append(
    transaction: &WriteTransaction,
    events: &[Entry],
    room: u64,
) -> Result<Logged, StoreError> {
    let mut log = Log::open(transaction)?;
    let mut logged = Logged::default();
    for event in events {
        let left = room.saturating_sub(logged.bytes);
        logged += match event {
            Entry::Instance(event) => log.tell(event, left)?,
            Entry::Group(_) => log.add(event, left)?,
        };
    }
    log.close()?;
    Ok(logged)
}

/// How large the log is.
pub(super) fn size(transaction: &redb::ReadTransaction) -> Result<LogSize, StoreError> {
    let numbers = transaction.open_table(NUMBERS).map_err(away)?;
    let entries = transaction.open_table(EVENTS).map_err(away)?;
    let number = |name: &str| -> Result<Option<u64>, StoreError> {
        let number = numbers.get(name).map_err(away)?;
        Ok(number.map(|number| number.value()))
    };
    let bytes = match number("event_bytes")? {
        Some(bytes) if number("event_counted")? == number("event")? => bytes,
        _ => count(&entries)?,
    };
    let first = entries.first().map_err(away)?;
    let first: Option<Entry> = first.map(|(_, text)| decode(text.value())).transpose()?;
    Ok(LogSize {
        bytes,
        entries: entries.len().map_err(away)?,
        oldest_ms: first.map(|entry| entry.at_ms()),
    })
}

/// The bytes of all entries.
fn count(entries: &impl redb::ReadableTable<u64, &'static str>) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for row in entries.iter().map_err(away)? {
        let (_, text) = row.map_err(away)?;
        bytes += length(text.value());
    }
    Ok(bytes)
}

fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

impl<'a> Log<'a> {
    fn open(transaction: &'a WriteTransaction) -> Result<Self, StoreError> {
        let numbers = transaction.open_table(NUMBERS).map_err(away)?;
        let number = |name: &str| -> Result<Option<u64>, StoreError> {
            let number = numbers.get(name).map_err(away)?;
            Ok(number.map(|number| number.value()))
        };
        let entries = transaction.open_table(EVENTS).map_err(away)?;
        let mut latest = transaction.open_table(LATEST).map_err(away)?;
        let last = number("event")?.unwrap_or(0);
        let bytes = match number("event_bytes")? {
            Some(bytes) if number("event_counted")? == Some(last) => bytes,
            _ => {
                latest.retain(|_, _| false).map_err(away)?;
                count(&entries)?
            }
        };
        Ok(Self {
            numbers,
            entries,
            latest,
            last,
            bytes,
        })
    }

    /// Counts an event with an entry, or adds one.
    fn tell(&mut self, event: &Event, room: u64) -> Result<Logged, StoreError> {
        let key = within(&event.service, &event.instance);
        let known = self.latest.get(key.as_str()).map_err(away)?;
        let known: Option<Latest> = known.map(|text| decode(text.value())).transpose()?;
        let (mut latest, sketch) = (known.unwrap_or_default(), Sketch::of(event));
        let is_there = |number| matches!(self.entries.get(number), Ok(Some(_)));
        let logged = match latest.count(&sketch, is_there) {
            Some(counted) => {
                self.count_with(counted.number, counted.last_ms)?;
                Logged {
                    counted: 1,
                    ..Logged::default()
                }
            }
            None => self.add(&Entry::Instance(event.clone()), room)?,
        };
        if logged.stored > 0 {
            latest.add(&sketch, self.last);
        }
        if logged.left_out == 0 {
            let text = encode(&latest)?;
            self.latest
                .insert(key.as_str(), text.as_str())
                .map_err(away)?;
        }
        Ok(logged)
    }

    fn add(&mut self, entry: &Entry, room: u64) -> Result<Logged, StoreError> {
        let text = encode(entry)?;
        let bytes = length(&text);
        if bytes > room {
            return Ok(Logged {
                left_out: 1,
                ..Logged::default()
            });
        }
        self.last += 1;
        self.bytes += bytes;
        self.entries
            .insert(self.last, text.as_str())
            .map_err(away)?;
        Ok(Logged {
            stored: 1,
            bytes,
            ..Logged::default()
        })
    }

    /// Adds one to the reports that an entry stands for.
    fn count_with(&mut self, number: u64, last_ms: u64) -> Result<(), StoreError> {
        let text = self.entries.get(number).map_err(away)?;
        let Some(text) = text.map(|text| text.value().to_owned()) else {
            return Ok(());
        };
        let Entry::Instance(mut event) = decode(&text)? else {
            return Ok(());
        };
        event.counted(event.seen_by.saturating_add(1), last_ms);
        let new = encode(&event)?;
        self.bytes = (self.bytes + length(&new)).saturating_sub(length(&text));
        self.entries.insert(number, new.as_str()).map_err(away)?;
        Ok(())
    }

    /// Drops the oldest entries, and keeps the numbers.
    fn close(mut self) -> Result<(), StoreError> {
        let mut trimmed = 0;
        while self.bytes > EVENTS_BYTES_MAX && trimmed < TRIMMED_MAX {
            let first = self.entries.pop_first().map_err(away)?;
            let Some(bytes) = first.map(|(_, text)| length(text.value())) else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(bytes);
            trimmed += 1;
        }
        if self.latest.len().map_err(away)? > LATEST_INSTANCES_MAX {
            let from = self.last.saturating_sub(LATEST_INSTANCES_MAX / 2);
            let is_late =
                |text: &str| decode(text).is_ok_and(|latest: Latest| latest.last_number() > from);
            self.latest.retain(|_, text| is_late(text)).map_err(away)?;
        }
        for (name, number) in [
            ("event", self.last),
            ("event_counted", self.last),
            ("event_bytes", self.bytes),
        ] {
            self.numbers.insert(name, number).map_err(away)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::Durability;
    use unitring_protocol::report::EventKind;

    use super::*;
    use crate::store::Fleet as _;
    use crate::store::embedded::Embedded;

    fn told(kind: EventKind, at_ms: u64) -> Entry {
        let (service, instance) = ("orders".parse().unwrap(), "a".parse().unwrap());
        Entry::Instance(Event::registry(kind, &service, &instance, "seen", at_ms))
    }

    fn change(store: &Embedded, change: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>) {
        let done = store.write_now(Durability::Immediate, |transaction, _| change(transaction));
        done.unwrap();
    }

    fn append_now(store: &Embedded, kind: EventKind, at_ms: u64) {
        change(store, |transaction| {
            append(transaction, &[told(kind, at_ms)], EVENTS_BYTES_MAX).map(drop)
        });
    }

    /// Appends as the previous version did, which knows neither the size nor the latest entries.
    fn append_as_before(store: &Embedded, kind: EventKind, at_ms: u64) {
        change(store, |transaction| {
            let mut numbers = transaction.open_table(NUMBERS).map_err(away)?;
            let number = numbers.get("event").map_err(away)?;
            let number = number.map_or(0, |number| number.value()) + 1;
            let mut log = transaction.open_table(EVENTS).map_err(away)?;
            let text = encode(&told(kind, at_ms))?;
            log.insert(number, text.as_str()).map_err(away)?;
            numbers.insert("event", number).map_err(away)?;
            Ok(())
        });
    }

    #[tokio::test]
    async fn what_an_older_program_logged_is_counted_and_hides_no_turn() {
        use EventKind::{Ejected, Recovered};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("east.redb");
        let open = || Embedded::open(&path, "east".parse().unwrap(), true).unwrap();
        let size = async |store: &Embedded| {
            let (size, all) = (
                store.log_size().await.unwrap(),
                store.events(None, 100).await,
            );
            let all = all.unwrap();
            let bytes = all.iter().map(|(_, entry)| encode(entry).unwrap().len());
            assert_eq!(size.bytes, bytes.sum::<usize>() as u64);
            assert_eq!(size.entries, all.len() as u64);
            all.len()
        };
        let store = open();
        append_as_before(&store, Ejected, 1);
        change(&store, |transaction| {
            transaction.delete_table(LATEST).map_err(away).map(drop)
        });
        drop(store);
        let store = open();
        assert_eq!(size(&store).await, 1);
        append_now(&store, Ejected, 2);
        append_now(&store, Ejected, 3);
        assert_eq!(size(&store).await, 2);
        // The older program, once more.
        append_as_before(&store, Recovered, 4);
        assert_eq!(size(&store).await, 3);
        append_now(&store, Ejected, 5);
        append_now(&store, Ejected, 6);
        assert_eq!(size(&store).await, 4);
        let (_, last) = store.events(None, 1).await.unwrap().remove(0);
        assert!(matches!(last, Entry::Instance(event) if event.seen_by == 2));
    }
}
