//! The fixed data of the unit.

use async_trait::async_trait;
use serde::Serialize;
use unitring_protocol::ids::{DatasetName, RecordKey};

use super::StoreError;
use crate::fixed::FixedData;

/// What `unitring group create` loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// Grows with each change.
    pub version: u64,
    /// That of the values: equal in units with equal data.
    pub checksum: String,
    /// How many values there are.
    pub count: u64,
    /// In which datasets.
    pub datasets: Vec<String>,
}

/// The fixed data of the unit.
#[async_trait]
pub trait FixedStore: Send + Sync {
    /// What the fixed data are, if there are some.
    async fn fixed(&self) -> Result<Option<Fixed>, StoreError>;

    /// A value of the fixed data.
    async fn fixed_value(
        &self,
        dataset: &DatasetName,
        key: &RecordKey,
    ) -> Result<Option<Vec<u8>>, StoreError>;

    /// All of them.
    async fn fixed_data(&self) -> Result<Option<(Fixed, FixedData)>, StoreError>;

    /// Puts these in their place, if they are of a later version, or of the same and a greater checksum;
    /// answers whether.
    async fn load_fixed(&self, version: u64, data: &FixedData) -> Result<bool, StoreError>;
}
