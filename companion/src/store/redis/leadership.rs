//! [`Leadership`] in Redis: a lease by the clock of Redis.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use redis::AsyncCommands as _;
use redis::streams::StreamMaxlen;

use super::Redis;
use super::event_log::{limits, tell_entry};
use crate::events::Entry;
use crate::store::{EVENTS_BYTES_MAX, LEASE, Leadership, SINCE_AGREED, StoreError};

/// Hints that are kept, about. For a dropped hint the leader counts the outboxes a little later.
const HINTS_MAX: usize = 1_000;

type Hints = Vec<(String, Vec<(String, String)>)>;

#[async_trait]
impl Leadership for Redis {
    async fn lead(&self, me: &str) -> Result<Option<u64>, StoreError> {
        let mut connection = self.connection().await?;
        let mut call = self.scripts.lead.prepare_invoke();
        call.key(self.keys.leader())
            .key(self.keys.term())
            .key(self.keys.agreement());
        let agreement = self.agreement.as_ref();
        call.arg(me)
            .arg(u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX))
            .arg(agreement.map_or("", |agreement| &agreement.0))
            .arg(SINCE_AGREED);
        let term = call.invoke_async(&mut connection).await;
        let term = self.named(self.keys.of_the_unit(), term.map_err(StoreError::from));
        let term: Option<i64> = term.await?;
        let Some(term) = term else { return Ok(None) };
        if let Ok(term) = u64::try_from(term) {
            return Ok(Some(term));
        }
        // Further requests of this companion are refused, too.
        self.is_checked.store(false, Ordering::Relaxed);
        self.check_agreement().await?;
        Ok(None)
    }

    async fn resign(&self, me: &str) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let mut call = self.scripts.resign.prepare_invoke();
        call.key(self.keys.leader()).arg(me);
        Ok(call.invoke_async(&mut connection).await?)
    }

    async fn append(&self, term: u64, event: &Entry) -> Result<bool, StoreError> {
        let mut connection = self.connection().await?;
        let mut call = self.scripts.append.prepare_invoke();
        call.key(self.keys.term())
            .key(self.keys.events())
            .key(self.keys.events_index())
            .key(self.latest_key(event))
            .arg(term)
            .arg(limits())
            .arg(EVENTS_BYTES_MAX);
        tell_entry(&mut call, event)?;
        let done = call.invoke_async(&mut connection).await;
        let done = done.map_err(StoreError::from);
        self.named(self.keys.of_the_unit(), done).await
    }

    async fn hint(&self, bucket: u8) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let max = StreamMaxlen::Approx(HINTS_MAX);
        let fields = [("bucket", bucket)];
        let _: String = connection
            .xadd_maxlen(self.keys.hints(), max, "*", &fields)
            .await?;
        Ok(())
    }

    async fn hints(&self, after: &str) -> Result<(BTreeSet<u8>, String), StoreError> {
        let mut connection = self.connection().await?;
        let key = self.keys.hints();
        let rows: Hints = if after.is_empty() {
            connection.xrevrange_count(key, "+", "-", 1).await?
        } else {
            let from = format!("({after}");
            connection.xrange_count(key, from, "+", HINTS_MAX).await?
        };
        let last = rows.last().map_or(after, |(id, _)| id).to_owned();
        let last = if last.is_empty() {
            "0-0".to_owned()
        } else {
            last
        };
        // An entry of another client hints at nothing.
        let bucket = |(_, fields): &(String, Vec<(String, String)>)| {
            let (_, bucket) = fields.first()?;
            bucket.parse().ok()
        };
        let buckets: BTreeSet<u8> = rows.iter().filter_map(bucket).collect();
        Ok((buckets, last))
    }
}
