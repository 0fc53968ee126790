//! Records, one by one and listed.

use async_trait::async_trait;
use unitring_protocol::ids::DatasetName;
use unitring_protocol::record::{Record, RecordId};

use super::{Change, Condition, Mark, Outcome, StoreError, Written};

/// A record in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub id: RecordId,
    /// Its version, and when it expires.
    pub mark: Mark,
}

/// Records, one by one and listed.
#[async_trait]
pub trait Records: Send + Sync {
    /// Changes a record if the condition holds. Condition, record, version, digest, sequence, log
    /// of changes and, if the unit has peers, outbox are one step.
    async fn write_if(
        &self,
        id: &RecordId,
        change: Change<'_>,
        condition: &Condition,
        now_ms: u64,
    ) -> Result<Outcome, StoreError>;

    /// Writes without a condition: `None` deletes. Returns `None` if there is nothing to delete.
    async fn write(
        &self,
        id: &RecordId,
        value: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<Option<Written>, StoreError> {
        let change = Change::from(value);
        match self.write_if(id, change, &Condition::Any, now_ms).await? {
            Outcome::Done(written) => Ok(Some(written)),
            Outcome::Nothing | Outcome::Refused(_) | Outcome::Overtaken => Ok(None),
        }
    }

    /// Reads a record; a deleted one is returned, too.
    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError>;

    /// About `count` live records of a bucket, of this dataset and with this prefix of the key, and
    /// where the next ones start, if there may be more. A record that is present throughout is
    /// listed at least once.
    async fn list(
        &self,
        bucket: u8,
        (dataset, prefix): (&DatasetName, &str),
        from: &str,
        count: usize,
        now_ms: u64,
    ) -> Result<(Vec<Listed>, Option<String>), StoreError>;
}
