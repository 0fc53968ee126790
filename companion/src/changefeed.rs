//! Follows the log of changes for the watchers of records: one reader per process, however many
//! watchers there are, and no reads while there are no watchers.
//!
//! Invariant: each watcher knows its position in every bucket, and reads from the store what it
//! misses here; it loses no change and gets none twice.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::{Notify, broadcast};
use tokio::time::sleep;
use unitring_protocol::digest::BUCKETS;
use unitring_protocol::ids::UnitId;

use crate::replica::digest::share;
use crate::store::{ChangeFeed, Listed, StoreError};

/// How often the writes of other companions are read.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long writes of this companion gather before they are read.
const GATHER: Duration = Duration::from_millis(10);
/// Reads that a watcher may lag behind. After more of them it reads from the store.
const BEHIND_MAX: usize = 64;

/// The position of a watcher: its unit, and the last change that it knows of each bucket. As text,
/// the unit, a slash, and of each bucket `<number>:<print>` with dots between them, where 0 is left
/// out. The print shows when a store went back to an older copy of itself, and gave the same
/// numbers to other changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Positions {
    /// `None` for positions of an older program, which mean nothing here.
    unit: Option<UnitId>,
    at: Vec<Place>,
}

/// The last change of a bucket that a watcher knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    /// Its number; 0 for none.
    number: u64,
    /// Its fingerprint; 0 if the change could no longer be read.
    print: u32,
}

/// The fingerprint of a change.
fn print(record: &Listed) -> u32 {
    let share = share(&record.id.to_string(), &record.mark.to_string()).0;
    u32::try_from(share >> 32).unwrap_or_default().max(1)
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(unit) = &self.unit {
            write!(f, "{unit}/")?;
        }
        for (bucket, place) in self.at.iter().enumerate() {
            if bucket > 0 {
                f.write_str(".")?;
            }
            if place.number > 0 {
                write!(f, "{}:{:x}", place.number, place.print)?;
            }
        }
        Ok(())
    }
}

impl FromStr for Positions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be an event's id, as it was sent".to_owned();
        let place = |part: &str| {
            if part.is_empty() {
                return Some(Place::default());
            }
            let (number, print) = part.split_once(':').unwrap_or((part, "0"));
            Some(Place {
                number: number.parse().ok()?,
                print: u32::from_str_radix(print, 16).ok()?,
            })
        };
        let (unit, places) = match text.split_once('/') {
            Some((unit, places)) => (Some(unit.parse().map_err(|_| wrong())?), places),
            None => (None, text),
        };
        let at: Option<Vec<Place>> = places.split('.').map(place).collect();
        match at {
            Some(at) if at.len() == BUCKETS => Ok(Self { unit, at }),
            _ => Err(wrong()),
        }
    }
}

/// A change of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    bucket: u8,
    number: u64,
    /// The record, with its mark after the change.
    pub record: Listed,
}

/// The changes since the last read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// The changes, in order within each bucket.
    pub steps: Vec<Step>,
    /// Whether some changes are no longer in the log.
    pub missed: bool,
    /// Whether reading only began here: earlier changes are not in it.
    begins: bool,
}

/// Most buckets that are read at once.
const READ_AT_ONCE: usize = 32;

impl Positions {
    /// The current positions of all buckets of this unit.
    ///
    /// # Errors The store's.
    pub(crate) async fn now(store: &dyn ChangeFeed, unit: &UnitId) -> Result<Self, StoreError> {
        let heads = (0..=u8::MAX).zip(store.heads().await?);
        let places = heads.map(|(bucket, number)| place(store, bucket, number));
        let at = stream::iter(places).buffered(READ_AT_ONCE).try_collect();
        Ok(Self {
            unit: Some(unit.clone()),
            at: at.await?,
        })
    }

    /// Reads the changes since these positions, and moves them. Positions of another unit, or of
    /// changes that the store no longer has, set `missed`.
    ///
    /// # Errors The store's; the positions then stay.
    pub(crate) async fn resume(
        &mut self,
        store: &dyn ChangeFeed,
        unit: &UnitId,
    ) -> Result<News, StoreError> {
        if self.unit.as_ref() != Some(unit) {
            *self = Self::now(store, unit).await?;
            return Ok(News {
                missed: true,
                ..News::default()
            });
        }
        self.read(store, true).await
    }

    /// The same for a watcher that stayed connected.
    ///
    /// # Errors The store's; the positions then stay.
    pub(crate) async fn advance(&mut self, store: &dyn ChangeFeed) -> Result<News, StoreError> {
        self.read(store, false).await
    }

    /// With `all`, it also reads buckets whose number did not change.
    async fn read(&mut self, store: &dyn ChangeFeed, all: bool) -> Result<News, StoreError> {
        let heads = store.heads().await?;
        let (mut news, mut after) = (News::default(), self.clone());
        for (bucket, (head, at)) in (0..=u8::MAX).zip(heads.iter().zip(&mut after.at)) {
            if *head < at.number {
                // The store was emptied, or went back to an older copy.
                news.missed = true;
                *at = place(store, bucket, *head).await?;
            } else if *head > at.number || (all && at.number > 0) {
                news.read(store, bucket, at).await?;
            }
        }
        *self = after;
        Ok(news)
    }

    /// Follows what another reader read: returns only what is new to this watcher, and reads the
    /// changes in between from the store.
    ///
    /// # Errors The store's; the positions then stay.
    pub(crate) async fn follow(
        &mut self,
        told: &News,
        store: &dyn ChangeFeed,
    ) -> Result<News, StoreError> {
        if told.begins {
            return self.advance(store).await;
        }
        if told.missed {
            // The store may have gone back, and have given our numbers to other changes.
            let mut news = self.read(store, true).await?;
            news.missed = true;
            return Ok(news);
        }
        let mut news = News::default();
        let mut after = self.clone();
        for step in &told.steps {
            let Some(at) = after.at.get_mut(usize::from(step.bucket)) else {
                continue;
            };
            if step.number == at.number + 1 {
                *at = step.place();
                news.steps.push(step.clone());
            } else if step.number > at.number {
                news.read(store, step.bucket, at).await?;
            }
        }
        *self = after;
        Ok(news)
    }
}

/// The change of this number; its print is 0 if the log no longer has it.
async fn place(store: &dyn ChangeFeed, bucket: u8, number: u64) -> Result<Place, StoreError> {
    let Some(before) = number.checked_sub(1) else {
        return Ok(Place::default());
    };
    let found = store.changes(bucket, before).await?.changes;
    let found = found.iter().find(|(found, _)| *found == number);
    let print = found.map_or(0, |(_, record)| print(record));
    Ok(Place { number, print })
}

impl Step {
    fn place(&self) -> Place {
        Place {
            number: self.number,
            print: print(&self.record),
        }
    }
}

impl News {
    /// Reads the changes of a bucket after a place, and checks that the place still has the same
    /// change.
    async fn read(
        &mut self,
        store: &dyn ChangeFeed,
        bucket: u8,
        at: &mut Place,
    ) -> Result<(), StoreError> {
        // The known change is read again: another one may have its number by now.
        let found = store.changes(bucket, at.number.saturating_sub(1)).await?;
        let known = found.changes.iter().find(|(found, _)| *found == at.number);
        if at.print > 0 && known.is_some_and(|(_, record)| print(record) != at.print) {
            self.missed = true;
        }
        let first = found.changes.first().map(|(number, _)| *number);
        self.missed |= first.is_some_and(|first| first > at.number.saturating_add(1));
        for (number, record) in found.changes {
            if number > at.number {
                let step = Step {
                    bucket,
                    number,
                    record,
                };
                *at = step.place();
                self.steps.push(step);
            }
        }
        Ok(())
    }
}

/// The reader of the log and the channel to its watchers.
#[derive(Clone)]
pub(crate) struct Follower {
    sender: broadcast::Sender<Arc<News>>,
    woken: Arc<Notify>,
}

impl Default for Follower {
    fn default() -> Self {
        Self {
            sender: broadcast::Sender::new(BEHIND_MAX),
            woken: Arc::default(),
        }
    }
}

impl Follower {
    /// Subscribes to what is read from now on; the first changes may be older than the
    /// subscription.
    pub(crate) fn watch(&self) -> broadcast::Receiver<Arc<News>> {
        let receiver = self.sender.subscribe();
        self.woken.notify_one();
        receiver
    }

    /// Wakes the reader: this process changed a record.
    pub(crate) fn changed(&self) {
        if self.sender.receiver_count() > 0 {
            self.woken.notify_one();
        }
    }

    /// Reads for ever, while there are watchers.
    pub(crate) async fn run(self, store: Arc<dyn ChangeFeed>, unit: UnitId) {
        let mut positions: Option<Positions> = None;
        let mut was_away = false;
        loop {
            if self.sender.receiver_count() == 0 {
                positions = None;
                self.woken.notified().await;
                continue;
            }
            let news = match &mut positions {
                // Meanwhile another server may have taken over, whose changes have our numbers.
                Some(positions) if was_away => positions.resume(&*store, &unit).await,
                Some(positions) => positions.advance(&*store).await,
                None => Positions::now(&*store, &unit).await.map(|now| {
                    positions = Some(now);
                    News {
                        begins: true,
                        ..News::default()
                    }
                }),
            };
            was_away = news.is_err();
            match news {
                // The last watcher may be gone by now.
                Ok(news) if news != News::default() => drop(self.sender.send(Arc::new(news))),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "watching records waits for the store"),
            }
            tokio::select! {
                () = self.woken.notified() => sleep(GATHER).await,
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
