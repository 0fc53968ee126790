//! The event log in Redis: the arguments of event_log.lua, and reading.

use redis::ScriptInvocation;

use super::{Redis, corrupt, decode, encode};
use crate::events::merging::{LATEST_MAX, Sketch, UNSETTLED_MS, WINDOW_MS, undone_by};
use crate::events::{Cursor, Entry, Event};
use crate::store::{EVENTS_BYTES_MAX, LATEST_MS, LogSize, StoreError, TRIMMED_MAX};

/// The limits of the log, as event_log.lua takes them.
pub(super) fn limits() -> String {
    format!("{EVENTS_BYTES_MAX} {TRIMMED_MAX} {WINDOW_MS} {LATEST_MAX} {LATEST_MS} {UNSETTLED_MS}")
}

/// The fields of an event that decide in which entry it is counted, as event_log.lua takes them.
fn sketch(event: &Event) -> Result<String, StoreError> {
    let of = Sketch::of(event);
    let kind = encode(&of.kind)?;
    let undone_by = undone_by(of.kind).iter().map(encode);
    let undone_by = undone_by.collect::<Result<Vec<_>, _>>()?.join(",");
    // A kind is a word, in quotes.
    let text = format!("{} {kind} {:016x} ,{undone_by},", of.at_ms, of.print);
    Ok(text.replace('"', ""))
}

/// Adds an event to a script's arguments: its sketch and itself.
pub(super) fn tell(call: &mut ScriptInvocation<'_>, event: &Event) -> Result<(), StoreError> {
    call.arg(sketch(event)?).arg(encode(event)?);
    Ok(())
}

/// The same, of any entry.
pub(super) fn tell_entry(call: &mut ScriptInvocation<'_>, entry: &Entry) -> Result<(), StoreError> {
    match entry {
        Entry::Instance(event) => tell(call, event),
        Entry::Group(_) => {
            call.arg("").arg(encode(entry)?);
            Ok(())
        }
    }
}

/// An entry with what the index has of it.
fn read((id, text, counted): &(String, String, String)) -> Result<(Cursor, Entry), StoreError> {
    let cursor = id.parse().map_err(|_| corrupt(id))?;
    let mut entry = decode(text)?;
    if let (Entry::Instance(event), false) = (&mut entry, counted.is_empty()) {
        let (count, last_ms) = counted.split_once(' ').ok_or_else(|| corrupt(counted))?;
        let number = |text: &str| text.parse().map_err(|_| corrupt(counted));
        event.counted(number(count)?, number(last_ms)?);
    }
    Ok((cursor, entry))
}

impl Redis {
    /// The key of the latest entries of an event's instance, or one that the script does not touch.
    pub(super) fn latest_key(&self, entry: &Entry) -> String {
        match entry {
            Entry::Instance(event) => self.keys.events_latest(&event.service, &event.instance),
            Entry::Group(_) => self.keys.events_index(),
        }
    }

    pub(super) async fn read_events(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Entry)>, StoreError> {
        let mut connection = self.connection().await?;
        let mut call = self.scripts.events.prepare_invoke();
        call.key(self.keys.events())
            .key(self.keys.events_index())
            .arg(after.map_or_else(String::new, |after| after.to_string()))
            .arg(limit);
        let rows = call.invoke_async(&mut connection).await;
        let rows = self.named(self.keys.of_the_unit(), rows.map_err(StoreError::from));
        let rows: Vec<(String, String, String)> = rows.await?;
        let read = |row| self.spoiled.keep("an event", read(row));
        Ok(rows.iter().filter_map(read).collect())
    }

    pub(super) async fn read_log_size(&self) -> Result<LogSize, StoreError> {
        let mut connection = self.connection().await?;
        let mut call = self.scripts.log_size.prepare_invoke();
        call.key(self.keys.events())
            .key(self.keys.events_index())
            .arg(limits());
        let size = call.invoke_async(&mut connection).await;
        let size = self.named(self.keys.of_the_unit(), size.map_err(StoreError::from));
        let (bytes, entries, oldest): (u64, u64, String) = size.await?;
        let oldest: Option<Entry> = match oldest.is_empty() {
            true => None,
            false => self.spoiled.keep("an event", decode(&oldest)),
        };
        Ok(LogSize {
            bytes,
            entries,
            oldest_ms: oldest.map(|entry| entry.at_ms()),
        })
    }
}
