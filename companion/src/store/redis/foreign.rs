//! Keys where another client put another type than unitring keeps there. A script fails at such a key before it writes
//! anything. Here the key is found and named, with the way out; the other buckets go on.

use redis::RedisError;

use super::Redis;
use super::keys::Kind;
use crate::store::StoreError;

impl Redis {
    /// The answer about a bucket; `None` if that cannot be read: it is named, and the other buckets go on.
    pub(super) async fn unless_foreign<T>(
        &self,
        bucket: u8,
        answer: Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        match answer {
            Err(StoreError::Corrupt(why)) => {
                if self.foreign(&self.keys.of_a_bucket(bucket)).await.is_none() {
                    self.spoiled.note(&format!("bucket {bucket}"), &why);
                }
                Ok(None)
            }
            answer => answer.map(Some),
        }
    }

    /// The same answer; an error names the key that is of another type, if one of these is.
    pub(super) async fn named<T>(
        &self,
        keys: impl IntoIterator<Item = (String, Kind)>,
        answer: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match answer {
            Err(StoreError::Corrupt(why)) => {
                let keys: Vec<_> = keys.into_iter().collect();
                Err(StoreError::Corrupt(
                    self.foreign(&keys).await.unwrap_or(why),
                ))
            }
            answer => answer,
        }
    }

    /// The same of a write, whose op may have no place in the outbox.
    pub(super) async fn named_write<T>(
        &self,
        outbox: &str,
        keys: Vec<(String, Kind)>,
        answer: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match answer {
            Err(StoreError::Corrupt(why)) if is_at_the_end(&why) => {
                let why = "another client's entry has the last number that there is: delete it, with the key, and a \
                           repair brings the other units what waited there";
                self.spoiled.note_key(outbox, &why);
                Err(StoreError::Corrupt(format!("key {outbox}: {why}")))
            }
            answer => self.named(keys, answer).await,
        }
    }

    /// Notes each of these keys that is of another type; returns what the first is, and the way out.
    async fn foreign(&self, keys: &[(String, Kind)]) -> Option<String> {
        let mut connection = self.connection.clone();
        let mut first = None;
        for (key, kind) in keys {
            let mut command = redis::cmd("TYPE");
            let found = command.arg(key).query_async(&mut connection).await;
            let found: Result<String, RedisError> = found;
            let Ok(found) = found else {
                continue;
            };
            if found == "none" || found == kind.name() {
                continue;
            }
            let why = format!(
                "another client made it a {found}; unitring keeps a {} there: rename or delete it, and if it is a \
                 bucket's, run `unitring unit repair --recount`",
                kind.name(),
            );
            self.spoiled.note_key(key, &why);
            first.get_or_insert(format!("key {key}: {why}"));
        }
        first
    }
}

/// Whether a stream has no number left for an entry.
fn is_at_the_end(why: &str) -> bool {
    why.contains("XADD") || why.contains("last possible ID")
}

/// Whether a command met another type than its own, or text that no unitring wrote.
pub(super) fn is_foreign(error: &RedisError) -> bool {
    match error.code() {
        Some("WRONGTYPE") => true,
        Some("ERR") => error.detail().is_some_and(is_at_the_end),
        _ => {
            matches!(
                error.kind(),
                redis::ErrorKind::Parse | redis::ErrorKind::UnexpectedReturnType
            ) && !error.is_io_error()
        }
    }
}
