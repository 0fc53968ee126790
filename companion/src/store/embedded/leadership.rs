//! [`Leadership`] in the file: its single process always leads.

use std::collections::BTreeSet;

use async_trait::async_trait;
use redb::Durability;

use super::{Embedded, event_log};
use crate::events::Entry;
use crate::store::{EVENTS_BYTES_MAX, Leadership, StoreError};

#[async_trait]
impl Leadership for Embedded {
    async fn lead(&self, _me: &str) -> Result<Option<u64>, StoreError> {
        self.agreed.check()?;
        Ok(Some(1))
    }

    async fn resign(&self, _me: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn append(&self, _term: u64, event: &Entry) -> Result<bool, StoreError> {
        let entry = event.clone();
        self.change(Durability::Immediate, move |transaction, _| {
            event_log::append(transaction, &[entry], EVENTS_BYTES_MAX)
        })
        .await?;
        Ok(true)
    }

    async fn hint(&self, _bucket: u8) -> Result<(), StoreError> {
        Ok(())
    }

    async fn hints(&self, after: &str) -> Result<(BTreeSet<u8>, String), StoreError> {
        Ok((BTreeSet::new(), after.to_owned()))
    }
}
