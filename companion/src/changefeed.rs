//! Follows the log of changes for those who watch records: one reader per process, however many
//! watch, and none while nobody does.
//!
//! Invariant: each watcher knows how far it is in every bucket, so that what it misses here, it reads
//! from the store; nothing is lost between the two, and nothing comes twice.

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

/// How often another companion's writes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long writes here are gathered before they are read.
const GATHER: Duration = Duration::from_millis(10);
/// Looks that a watcher may be behind; then it reads from the store.
const BEHIND_MAX: usize = 64;

/// How far somebody is: in which unit, and which change of each bucket was the last. As text, the unit, a slash,
/// and of each bucket `<number>:<print>` with dots between them, where 0 is left out. A number alone would not
/// tell that a store went back to an older copy of itself, and gave the same numbers to other changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    /// `None` for positions of an older program, which say nothing here.
    unit: Option<UnitId>,
    at: Vec<Place>,
}

/// The last change of a bucket that somebody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    /// 0 for none.
    number: u64,
    /// Of the change, so that it is known again; 0 where it could not be read any more.
    print: u32,
}

/// The print of a change.
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

/// One change of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    bucket: u8,
    number: u64,
    /// Which record, and how it is now.
    pub record: Listed,
}

/// What came since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// In order within each bucket.
    pub steps: Vec<Step>,
    /// Whether some changes are no longer known.
    pub missed: bool,
    /// Whether they are read from now on only: what came just before is told to nobody.
    begins: bool,
}

/// Buckets that are read at a time.
const READ_AT_ONCE: usize = 32;

impl Positions {
    /// Where all buckets of this unit are now.
    ///
    /// # Errors
    /// The store's.
    pub async fn now(store: &dyn ChangeFeed, unit: &UnitId) -> Result<Self, StoreError> {
        let heads = (0..=u8::MAX).zip(store.heads().await?);
        let places = heads.map(|(bucket, number)| place(store, bucket, number));
        let at = stream::iter(places).buffered(READ_AT_ONCE).try_collect();
        Ok(Self {
            unit: Some(unit.clone()),
            at: at.await?,
        })
    }

    /// Reads what changed since, and goes there. Positions of another unit, and those that a store of this one
    /// has no more, are answered by `missed`.
    ///
    /// # Errors
    /// The store's; then nothing has moved.
    pub async fn resume(
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

    /// The same for somebody who was here all the time.
    ///
    /// # Errors
    /// The store's; then nothing has moved.
    pub async fn advance(&mut self, store: &dyn ChangeFeed) -> Result<News, StoreError> {
        self.read(store, false).await
    }

    /// With `all`, buckets in which nothing seems to have changed are looked at, too.
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

    /// Goes along with what somebody else read: answers only what is new here, and reads what lies in
    /// between.
    ///
    /// # Errors
    /// The store's; then nothing has moved.
    pub async fn follow(
        &mut self,
        told: &News,
        store: &dyn ChangeFeed,
    ) -> Result<News, StoreError> {
        if told.begins {
            return self.advance(store).await;
        }
        let mut news = News {
            missed: told.missed,
            ..News::default()
        };
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

/// The change of this number, if it is known still.
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
    /// Reads a bucket on from a place, if that is still what it was.
    async fn read(
        &mut self,
        store: &dyn ChangeFeed,
        bucket: u8,
        at: &mut Place,
    ) -> Result<(), StoreError> {
        // The last one that is known, too: another change may have its number by now.
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

/// Where watchers are told.
#[derive(Clone)]
pub struct Follower {
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
    /// What comes from now on, and somewhat of what came just before.
    pub fn watch(&self) -> broadcast::Receiver<Arc<News>> {
        let receiver = self.sender.subscribe();
        self.woken.notify_one();
        receiver
    }

    /// A record was changed by this process.
    pub fn changed(&self) {
        if self.sender.receiver_count() > 0 {
            self.woken.notify_one();
        }
    }

    /// Reads for ever, while somebody watches.
    pub async fn run(self, store: Arc<dyn ChangeFeed>, unit: UnitId) {
        let mut positions: Option<Positions> = None;
        loop {
            if self.sender.receiver_count() == 0 {
                positions = None;
                self.woken.notified().await;
                continue;
            }
            let news = match &mut positions {
                Some(positions) => positions.advance(&*store).await,
                None => Positions::now(&*store, &unit).await.map(|now| {
                    positions = Some(now);
                    News {
                        begins: true,
                        ..News::default()
                    }
                }),
            };
            match news {
                // Nobody may be left to hear it.
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
