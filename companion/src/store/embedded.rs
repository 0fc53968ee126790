//! The embedded store: one redb file of one process. Every change is one transaction, on disk
//! before it is answered; only loads, which the next report replaces, wait for the next commit.

mod agreement;
mod bucket;
mod changefeed;
mod event_log;
mod fixed;
mod fleet;
mod fleet_changes;
mod grouped;
mod health;
mod housekeeping;
mod leadership;
mod outbox;
mod pictures;
mod records;
mod replica;
mod standings;
mod tables;
mod totals;

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use opentelemetry::trace::SpanKind;
use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase as _,
    ReadableTable as _, WriteTransaction,
};
use unitring_protocol::ids::UnitId;

use super::settled::SettledClock;
use super::{Compacted, LAYOUT, Spoiled, StoreError};
use crate::files;
use crate::replica::Rules;
use crate::trace::{self, Work};
use agreement::Agreed;
use grouped::Waiting;
use pictures::Pictures;
use standings::Standings;
use tables::NUMBERS;

/// Records may be secrets: only their owner reads the file.
const FILE_MODE: u32 = 0o600;

/// The store. Clones are the same store.
#[derive(Clone)]
pub struct Embedded {
    path: Arc<Path>,
    /// `None` while it can't be opened again.
    database: Arc<RwLock<Option<Database>>>,
    /// Whether the last commit failed: then redb takes no more before the file is opened again.
    is_broken: Arc<AtomicBool>,
    rules: Rules,
    agreed: Arc<Agreed>,
    spoiled: Arc<Spoiled>,
    /// When a commit last went to disk for housekeeping: redb reuses no page before one does.
    flushed_ms: Arc<AtomicU64>,
    pruned_ms: Arc<AtomicU64>,
    /// The time by which it frees, once it was asked for, and when that was stored last.
    settled: Arc<Mutex<Option<SettledClock>>>,
    settled_kept_ms: Arc<AtomicU64>,
    pictures: Arc<Pictures>,
    standings: Arc<Standings>,
    waiting: Arc<Waiting>,
}

impl Embedded {
    /// Opens or creates the file. With peers, writes go to the outbox too.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Newer`], [`StoreError::File`].
    pub fn open(path: &Path, unit: UnitId, has_peers: bool) -> Result<Self, StoreError> {
        let store = Self {
            database: Arc::new(RwLock::new(Some(open_file(path)?))),
            path: path.into(),
            is_broken: Arc::default(),
            rules: Rules::of(unit, has_peers),
            agreed: Arc::default(),
            spoiled: Arc::default(),
            flushed_ms: Arc::default(),
            pruned_ms: Arc::default(),
            settled: Arc::default(),
            settled_kept_ms: Arc::default(),
            pictures: Arc::default(),
            standings: Arc::default(),
            waiting: Arc::default(),
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
        self.write_unless(durability, |transaction, store| {
            Ok((change(transaction, store)?, true))
        })
    }

    /// The same; `change` also returns whether anything has changed. If not, nothing is flushed.
    fn write_unless<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&WriteTransaction, &Self) -> Result<(T, bool), StoreError>,
    ) -> Result<T, StoreError> {
        self.agreed.check()?;
        self.write_any(durability, change)
    }

    /// The same, also for a process that may not work.
    fn write_any<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&WriteTransaction, &Self) -> Result<(T, bool), StoreError>,
    ) -> Result<T, StoreError> {
        self.with_any(|database| {
            let broken = |error: StoreError| {
                self.is_broken.store(true, Ordering::Relaxed);
                error
            };
            let transaction = database.begin_write().map_err(away).map_err(broken);
            let mut transaction = transaction?;
            transaction.set_durability(durability).map_err(away)?;
            // An error drops the transaction, which undoes it.
            let (done, has_changed) = change(&transaction, self)?;
            if !has_changed {
                return Ok(done);
            }
            transaction.commit().map_err(away).map_err(broken)?;
            Ok(done)
        })
    }

    /// Works with the file, if this process may.
    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.agreed.check()?;
        self.with_any(work)
    }

    /// Works with the file, and opens it again after a failed commit: a disk that was full may have room.
    fn with_any<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.is_broken.load(Ordering::Relaxed) {
            let mut database = self
                .database
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            if self.is_broken.load(Ordering::Relaxed) {
                // Closed first: a file is open once.
                drop(database.take());
                *database = Some(open_file(&self.path)?);
                self.is_broken.store(false, Ordering::Relaxed);
                tracing::info!(path = %self.path.display(), "the file is open again");
            }
        }
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        match database.as_ref() {
            Some(database) => work(database),
            None => Err(StoreError::Away("the file is not open".to_owned())),
        }
    }

    /// Moves all data to the front of the file and cuts off the rest. redb needs exclusive access
    /// meanwhile, so everything else waits.
    fn compact_now(&self) -> Result<Compacted, StoreError> {
        self.agreed.check()?;
        let length = || {
            std::fs::metadata(&self.path)
                .map(|file| file.len())
                .map_err(away)
        };
        let before = length()?;
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(open) = database.as_mut() else {
            return Err(StoreError::Away("the file is not open".to_owned()));
        };
        // Each round moves pages that the last one left, until there are none to move.
        while open.compact().map_err(away)? {}
        Ok(Compacted {
            before,
            after: length()?,
        })
    }

    /// One change as one transaction, off the async threads: a commit waits for the disk.
    async fn change<T: Send + 'static>(
        &self,
        durability: Durability,
        change: impl FnOnce(&WriteTransaction, &Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let done = off_thread(move || store.write_now(durability, change));
        trace::call(span("change"), done).await
    }

    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let look = move || store.with(|database| look(&database.begin_read().map_err(away)?));
        trace::call(span("look"), off_thread(look)).await
    }
}

/// The span of a transaction that traced work waits for.
fn span(name: &'static str) -> Option<Work> {
    let span = Work::part(SpanKind::Client, name)?;
    span.set("db.system.name", "redb");
    span.set("db.operation.name", name);
    Some(span)
}

/// Opens or creates the file, for its owner alone.
fn open_file(path: &Path) -> Result<Database, StoreError> {
    let failed = |message: String| StoreError::File {
        path: PathBuf::from(path),
        message,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(FILE_MODE);
    let existed = path.exists();
    let file = options
        .open(path)
        .map_err(|error| failed(files::why(&error)))?;
    let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
    if existed && metadata.len() == 0 {
        let why = "is empty, and so no store: what was in it is lost, or remove it to begin anew";
        return Err(failed(why.to_owned()));
    }
    file.set_permissions(Permissions::from_mode(FILE_MODE))
        .map_err(|error| failed(error.to_string()))?;
    let opened =
        FileBackend::new(file).and_then(|backend| Database::builder().create_with_backend(backend));
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse {
            path: PathBuf::from(path),
        },
        error => failed(error.to_string()),
    })
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StoreError::Away(error.to_string())))
}

/// An error of redb: the disk is full, or fails.
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
mod tests;
