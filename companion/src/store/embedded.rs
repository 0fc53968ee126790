//! The embedded store: one redb file of one process. Every change is one transaction, on disk
//! before it is answered; only loads, which the next report replaces, wait for the next commit.

mod browse;
mod changes;
mod fleet;
mod lease;
mod pictures;
mod records;
mod tables;
mod writes;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase as _,
    ReadableTable as _, WriteTransaction,
};
use unitring_protocol::ids::UnitId;

use super::{LAYOUT, Spoiled, StoreError};
use crate::replica::Rules;
use pictures::Pictures;
use tables::NUMBERS;

/// The store. Clones are the same store.
#[derive(Clone)]
pub struct Embedded {
    database: Arc<Database>,
    rules: Rules,
    spoiled: Arc<Spoiled>,
    /// When a commit last went to disk for housekeeping: redb reuses no page before one does.
    flushed_ms: Arc<AtomicU64>,
    pruned_ms: Arc<AtomicU64>,
    pictures: Arc<Pictures>,
}

impl Embedded {
    /// Opens or creates the file. With peers, writes go to the outbox too.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Newer`], [`StoreError::File`].
    pub fn open(path: &Path, unit: UnitId, has_peers: bool) -> Result<Self, StoreError> {
        let path_buf = || PathBuf::from(path);
        let database = Database::create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path_buf() },
            error => StoreError::File {
                path: path_buf(),
                message: error.to_string(),
            },
        })?;
        let store = Self {
            database: Arc::new(database),
            rules: Rules { unit, has_peers },
            spoiled: Arc::default(),
            flushed_ms: Arc::default(),
            pruned_ms: Arc::default(),
            pictures: Arc::default(),
        };
        store.write_now(Durability::Immediate, |transaction, _| {
            let mut numbers = transaction.open_table(NUMBERS).map_err(away)?;
            let found = numbers
                .get("layout")
                .map_err(away)?
                .map(|number| number.value());
            match found {
                Some(found) if found > LAYOUT => Err(StoreError::Newer {
                    found,
                    known: LAYOUT,
                }),
                Some(found) if found < LAYOUT => Err(StoreError::Older {
                    found,
                    known: LAYOUT,
                }),
                Some(_) => Ok(()),
                None => {
                    numbers.insert("layout", LAYOUT).map_err(away)?;
                    Ok(())
                }
            }
        })?;
        // The tables of another layout have other types.
        store.write_now(Durability::Immediate, |transaction, _| {
            tables::create(transaction)
        })?;
        Ok(store)
    }

    fn write_now<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&WriteTransaction, &Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut transaction = self.database.begin_write().map_err(away)?;
        transaction.set_durability(durability).map_err(away)?;
        // An error drops the transaction, which undoes it.
        let done = change(&transaction, self)?;
        transaction.commit().map_err(away)?;
        Ok(done)
    }

    /// One change as one transaction, off the async threads: a commit waits for the disk.
    async fn change<T: Send + 'static>(
        &self,
        durability: Durability,
        change: impl FnOnce(&WriteTransaction, &Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        off_thread(move || store.write_now(durability, change)).await
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        off_thread(move || look(&store.database.begin_read().map_err(away)?)).await
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StoreError::Away(error.to_string())))
}

/// What redb can't do: the disk is full, or fails.
fn away(error: impl std::fmt::Display) -> StoreError {
    StoreError::Away(error.to_string())
}

/// The name of a unit that the file holds.
fn unit_of(text: &str) -> Result<UnitId, StoreError> {
    let corrupt = |_| StoreError::Corrupt(format!("unit {text:?}"));
    text.parse().map_err(corrupt)
}

fn encode<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn decode<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    fn open_as(folder: &tempfile::TempDir, unit: &str, has_peers: bool) -> Embedded {
        let path = folder.path().join(format!("{unit}.redb"));
        Embedded::open(&path, unit.parse().unwrap(), has_peers).unwrap()
    }

    fn open(folder: &tempfile::TempDir, unit: &str) -> Embedded {
        open_as(folder, unit, true)
    }

    #[tokio::test]
    async fn the_embedded_store_keeps_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        contract::records(&open(&folder, "east"), &open(&folder, "west")).await;
        contract::passing(&open(&folder, "mine")).await;
        contract::fleet(&open(&folder, "north")).await;
        contract::browse(&open(&folder, "south"), &open_as(&folder, "alone", false)).await;
    }

    #[tokio::test]
    async fn a_write_is_there_after_the_file_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let id = contract::id("d", "k");
        let store = open(&folder, "east");
        crate::store::Records::write(&store, &id, Some(b"v"), 1)
            .await
            .unwrap();
        drop(store);
        let record = crate::store::Records::read(&open(&folder, "east"), &id)
            .await
            .unwrap();
        assert_eq!(record.unwrap().value.unwrap().0, b"v");
    }

    #[test]
    fn a_second_process_is_told_that_the_file_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let _first = open(&folder, "east");
        let path = folder.path().join("east.redb");
        let second = Embedded::open(&path, "east".parse().unwrap(), true);
        assert!(matches!(second, Err(StoreError::InUse { .. })));
    }
}
