//! The fixed data of the unit.

use async_trait::async_trait;
use serde::Serialize;
use unitring_protocol::ids::{DatasetName, RecordKey};

use super::StoreError;
use crate::fixed::FixedData;

/// The fixed data that a store has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// The version, which grows with each change.
    pub version: u64,
    /// The checksum of the values: equal in units with equal data.
    pub checksum: String,
    /// How many values there are.
    pub count: u64,
    /// The datasets that have values.
    pub datasets: Vec<String>,
}

/// The fixed data of the unit.
#[async_trait]
pub trait FixedStore: Send + Sync {
    /// Version, checksum and size of the fixed data, if there are any.
    async fn fixed(&self) -> Result<Option<Fixed>, StoreError>;

    /// A value of the fixed data.
    async fn fixed_value(
        &self,
        dataset: &DatasetName,
        key: &RecordKey,
    ) -> Result<Option<Vec<u8>>, StoreError>;

    /// All values.
    async fn fixed_data(&self) -> Result<Option<(Fixed, FixedData)>, StoreError>;

    /// Replaces the fixed data if these have a later version, or the same version and a greater
    /// checksum; returns whether it did.
    async fn load_fixed(&self, version: u64, data: &FixedData) -> Result<bool, StoreError>;
}
