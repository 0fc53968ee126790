//! [`Records`] in Redis. Every write is one script.

use async_trait::async_trait;
use redis::Cmd;
use unitring_protocol::ids::DatasetName;
use unitring_protocol::record::{Record, RecordId};

use super::keys::Kind;
use super::{Redis, corrupt};
use crate::replica::Mark;
use crate::replica::bounds::{AHEAD_MS_MAX, fault_of_change};
use crate::replica::digest::{bucket_of, record_id};
use crate::replica::stamps::{SOURCES_MAX, STAMPS_KEPT_MS};
use crate::store::{CHANGES_MAX, Change, Condition, Listed, Outcome, Records, StoreError, Written};
use crate::trace;

/// The answer of write.lua if the condition does not hold, …
const REFUSED: u8 = 2;
/// … if the bucket's clock is too far ahead …
const AHEAD: u8 = 3;
/// … and if the update, or a later one, was applied.
const OVERTAKEN: u8 = 4;

/// The answer of `HSCAN`: where it goes on, and fields with their values.
pub(super) type Scanned = (String, Vec<(Vec<u8>, Vec<u8>)>);

/// Escapes a text for a glob pattern.
fn literally(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

#[async_trait]
impl Records for Redis {
    async fn write_if(
        &self,
        id: &RecordId,
        change: Change<'_>,
        condition: &Condition,
        now_ms: u64,
    ) -> Result<Outcome, StoreError> {
        if let Some(fault) = fault_of_change(&change) {
            return Err(fault.into());
        }
        let call = self.write_call(id, change, condition, now_ms);
        let done = self.written(bucket_of(id), call).await;
        let done = match done {
            Err(StoreError::Corrupt(_)) => {
                let mut keys = self.keys.of_a_bucket(bucket_of(id));
                keys.push((self.keys.stamps(id), Kind::Text));
                self.named_write(&self.keys.outbox(bucket_of(id)), keys, done)
                    .await
            }
            done => done,
        };
        let done: Option<(String, u8)> = done?;
        let Some((version, created)) = done else {
            return Ok(Outcome::Nothing);
        };
        if created == AHEAD {
            let ms = version.parse().map_err(|_| corrupt(&version))?;
            return Err(StoreError::ClockAhead(ms));
        }
        if created == OVERTAKEN {
            return Ok(Outcome::Overtaken);
        }
        if created == REFUSED {
            let there = (!version.is_empty()).then(|| version.parse::<Mark>());
            return Ok(Outcome::Refused(
                there.transpose()?.map(|mark| mark.version),
            ));
        }
        Ok(Outcome::Done(Written {
            version: version.parse::<Mark>()?.version,
            created: created == 1,
        }))
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let records = self.read_all(bucket_of(id), vec![id.clone()]).await;
        let records = match records {
            Err(StoreError::Corrupt(_)) => {
                let keys = self.keys.of_a_bucket(bucket_of(id));
                self.named(keys, records).await?
            }
            records => records?,
        };
        Ok(records.into_iter().next())
    }

    async fn list(
        &self,
        bucket: u8,
        (dataset, prefix): (&DatasetName, &str),
        from: &str,
        count: usize,
        now_ms: u64,
    ) -> Result<(Vec<Listed>, Option<String>), StoreError> {
        let mut connection = self.connection().await?;
        let scanned = redis::cmd("HSCAN")
            .arg(self.keys.versions(bucket))
            .arg(if from.is_empty() { "0" } else { from })
            .arg("MATCH")
            .arg(format!(
                "{}/{}*",
                literally(dataset.as_str()),
                literally(prefix)
            ))
            .arg("COUNT")
            .arg(count)
            .query_async(&mut connection)
            .await;
        let scanned = self.unless_foreign(bucket, scanned.map_err(StoreError::from));
        let scanned: Option<Scanned> = scanned.await?;
        let (next, pairs) = scanned.unwrap_or_else(|| ("0".to_owned(), Vec::new()));
        let mut listed = Vec::with_capacity(pairs.len());
        for (id, mark) in pairs {
            listed.extend(self.listed(&id, &mark));
        }
        listed.retain(|listed| listed.mark.is_live(now_ms));
        Ok((listed, (next != "0").then_some(next)))
    }
}

/// The record that a field names; a name that is not text is corrupt.
pub(super) fn record_of(field: &[u8]) -> Result<RecordId, StoreError> {
    let text = str::from_utf8(field).map_err(|_| corrupt("record's name"))?;
    Ok(record_id(text)?)
}

impl Redis {
    /// The command that makes a write: a call of write.lua.
    pub(super) fn write_call(
        &self,
        id: &RecordId,
        change: Change<'_>,
        condition: &Condition,
        now_ms: u64,
    ) -> Cmd {
        let bucket = bucket_of(id);
        let mut keys = vec![
            self.keys.record(id),
            self.keys.versions(bucket),
            self.keys.meta(bucket),
            self.keys.outbox(bucket),
            self.keys.gone(bucket),
            self.keys.changes(bucket),
            self.keys.applied(bucket),
        ];
        if let Condition::After(_) = condition {
            keys.push(self.keys.stamps(id));
        }
        let (what, value, expires_ms) = match change {
            Change::Put { value, expires_ms } => (1, value, expires_ms),
            Change::Delete => (0, &[][..], None),
            Change::Again => (2, &[][..], None),
        };
        let mut call = redis::cmd("EVALSHA");
        let script = match (change, condition) {
            // A deletion that finds no record leaves a stamp, for which a full Redis has no room.
            (Change::Delete, Condition::After(_)) => &self.scripts.write,
            (Change::Delete, _) => &self.scripts.delete,
            (Change::Put { .. } | Change::Again, _) => &self.scripts.write,
        };
        call.arg(script.get_hash())
            .arg(keys.len())
            .arg(&keys)
            .arg(id.to_string())
            .arg(self.unit.as_str())
            .arg(now_ms)
            .arg(what)
            .arg(value)
            .arg(u8::from(self.has_peers));
        match condition {
            Condition::Any | Condition::After(_) => call.arg(""),
            Condition::Present => call.arg("*"),
            Condition::Absent => call.arg("-"),
            Condition::Version(version) => call.arg(version.to_string()),
            // No version is like it: an empty list matches none.
            Condition::OneOf(versions) if versions.is_empty() => call.arg("?"),
            Condition::OneOf(versions) => {
                let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
                call.arg(versions.join(" "))
            }
        };
        match expires_ms {
            Some(expires_ms) => call.arg(expires_ms),
            None => call.arg(""),
        };
        call.arg(CHANGES_MAX).arg(AHEAD_MS_MAX);
        call.arg(trace::current().map_or_else(String::new, String::from));
        if let Condition::After(stamp) = condition {
            call.arg(stamp.source.to_string())
                .arg(stamp.sequence)
                .arg(format!("{:016x}", stamp.vm))
                .arg(STAMPS_KEPT_MS)
                .arg(SOURCES_MAX);
        }
        call
    }

    /// Reads these records of one bucket; absent ones are left out.
    pub(super) async fn read_all(
        &self,
        bucket: u8,
        ids: Vec<RecordId>,
    ) -> Result<Vec<Record>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connection().await?;
        let mut call = self.scripts.read.prepare_invoke();
        call.key(self.keys.versions(bucket));
        for id in &ids {
            call.key(self.keys.record(id)).arg(id.to_string());
        }
        // A second read does no harm, and it uses a new connection.
        let answers: Vec<Option<Vec<u8>>> = match call.invoke_async(&mut connection).await {
            Err(error) if error.is_io_error() => call.invoke_async(&mut connection).await,
            answer => answer,
        }?;
        let mut records = Vec::with_capacity(ids.len());
        for (id, pair) in ids.into_iter().zip(answers.chunks_exact(2)) {
            let [Some(mark), value] = pair else { continue };
            let mark = String::from_utf8_lossy(mark);
            if let Some(found) = mark.strip_prefix('?') {
                self.foreign_value(&id, found);
                continue;
            }
            let mark = self.spoiled.keep(&id.to_string(), mark.parse::<Mark>());
            records.extend(mark.and_then(|mark| mark.record(id, value.clone())));
        }
        Ok(records)
    }

    /// Names a record where another client put another type.
    fn foreign_value(&self, id: &RecordId, found: &str) {
        let why = format!(
            "another client made its value a {found}: write the record again, or delete the key and run `unitring unit \
             repair --recount`, which brings it from another unit"
        );
        self.spoiled.note_key(&self.keys.record(id), &why);
    }

    /// Parses a row; `None` if no unitring wrote it.
    pub(super) fn listed(&self, id: &[u8], mark: &[u8]) -> Option<Listed> {
        let mark = String::from_utf8_lossy(mark);
        let read = record_of(id).and_then(|id| {
            let mark = mark.parse()?;
            Ok(Listed { id, mark })
        });
        self.spoiled.keep(&String::from_utf8_lossy(id), read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(literally(r"a*[b]?\c"), r"a\*\[b\]\?\\c");
    }
}
