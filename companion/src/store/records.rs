//! Records, one by one and listed.

use async_trait::async_trait;
use unitring_protocol::ids::DatasetName;
use unitring_protocol::record::{Record, RecordId};

use super::{Change, Condition, Mark, Outcome, StoreError, Written};

/// A record as a listing names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Which.
    pub id: RecordId,
    /// Its version, and when it expires.
    pub mark: Mark,
}

/// Records, one by one and listed.
#[async_trait]
pub trait Records: Send + Sync {
    /// Changes a record here if the condition holds. Condition, record, version, digest, sequence, log
    /// of changes and, if the unit has peers, outbox are one step.
    async fn write_if(
        &self,
        id: &RecordId,
        change: Change<'_>,
        condition: &Condition,
        now_ms: u64,
    ) -> Result<Outcome, StoreError>;

    /// The same whatever is there: `None` deletes. Answers `None` if there is nothing to delete.
    async fn write(
        &self,
        id: &RecordId,
        value: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<Option<Written>, StoreError> {
        let change = Change::from(value);
        match self.write_if(id, change, &Condition::Any, now_ms).await? {
            Outcome::Done(written) => Ok(Some(written)),
            Outcome::Nothing | Outcome::Refused(_) => Ok(None),
        }
    }

    /// A record, a deleted one included.
    async fn read(&self, id: &RecordId) -> Result<Option<Record>, StoreError>;

    /// Some of the live records of a bucket whose dataset is this and whose key starts like that, about
    /// `count`, and where the next ones start, if there may be more. What is there throughout is listed
    /// at least once.
    async fn list(
        &self,
        bucket: u8,
        (dataset, prefix): (&DatasetName, &str),
        from: &str,
        count: usize,
        now_ms: u64,
    ) -> Result<(Vec<Listed>, Option<String>), StoreError>;
}
