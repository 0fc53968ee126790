//! [`Records`] in the file: each method is one transaction.

use std::sync::Arc;

use async_trait::async_trait;
use redb::WriteTransaction;
use unitring_protocol::ids::DatasetName;
use unitring_protocol::record::{Record, RecordId};
use unitring_protocol::trace::TraceParent;

use super::bucket::Rows;
use super::tables::{VALUES, VERSIONS};
use super::{Embedded, away};
use crate::replica::bounds::fault_of_change;
use crate::replica::digest::{bucket_of, record_id};
use crate::replica::transaction;
use crate::store::{Change, Condition, Listed, Mark, Outcome, Records, StoreError};
use crate::trace;

pub(super) fn write(
    transaction: &WriteTransaction,
    store: &Embedded,
    id: &RecordId,
    write: (Change<'_>, &Condition),
    (trace, now_ms): (Option<TraceParent>, u64),
) -> Result<Outcome, StoreError> {
    let mut rows = Rows::of(transaction, store, bucket_of(id))?;
    rows.trace = trace;
    let outcome = transaction::write(&mut rows, &store.rules, id, write, now_ms)?;
    if matches!(outcome, Outcome::Done(_)) {
        rows.finish()?;
    }
    Ok(outcome)
}

#[async_trait]
impl Records for Embedded {
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
        let (value, expires_ms) = match change {
            Change::Put { value, expires_ms } => (Some(value.to_vec()), expires_ms),
            Change::Delete | Change::Again => (None, None),
        };
        let is_again = change == Change::Again;
        let (id, condition) = (id.clone(), condition.clone());
        // The transaction is another thread's.
        let trace = trace::current();
        self.write_grouped(move |transaction, store| {
            let change = match &value {
                Some(value) => Change::Put { value, expires_ms },
                None if is_again => Change::Again,
                None => Change::Delete,
            };
            let write_of = (change, &condition);
            write(transaction, store, &id, write_of, (trace, now_ms))
        })
        .await
    }

    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let id = id.clone();
        let spoiled = Arc::clone(&self.spoiled);
        self.look(move |transaction| {
            let text = id.to_string();
            let key = (bucket_of(&id), text.as_str());
            let versions = transaction.open_table(VERSIONS).map_err(away)?;
            let values = transaction.open_table(VALUES).map_err(away)?;
            let Some(mark) = versions.get(key).map_err(away)? else {
                return Ok(None);
            };
            let value = values.get(key).map_err(away)?;
            let value = value.map(|value| value.value().to_vec());
            let mark = spoiled.keep(&text, mark.value().parse::<Mark>());
            Ok(mark.and_then(|mark| mark.record(id.clone(), value)))
        })
        .await
    }

    async fn list(
        &self,
        bucket: u8,
        (dataset, prefix): (&DatasetName, &str),
        from: &str,
        count: usize,
        now_ms: u64,
    ) -> Result<(Vec<Listed>, Option<String>), StoreError> {
        let prefix = format!("{dataset}/{prefix}");
        let spoiled = Arc::clone(&self.spoiled);
        let from = from.to_owned();
        self.look(move |transaction| {
            let versions = transaction.open_table(VERSIONS).map_err(away)?;
            let first = from.as_str().max(&prefix);
            let mut listed = Vec::new();
            for row in versions.range((bucket, first)..).map_err(away)? {
                let (key, mark) = row.map_err(away)?;
                let (of, id) = key.value();
                if of != bucket || !id.starts_with(&prefix) {
                    break;
                }
                if listed.len() >= count {
                    return Ok((listed, Some(id.to_owned())));
                }
                let read = mark.value().parse::<Mark>();
                let read = read.and_then(|mark| Ok((record_id(id)?, mark)));
                let read = spoiled.keep(id, read);
                let live = read.filter(|(_, mark)| mark.is_live(now_ms));
                listed.extend(live.map(|(id, mark)| Listed { id, mark }));
            }
            Ok((listed, None))
        })
        .await
    }
}
