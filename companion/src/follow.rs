//! Follows the log of changes for those who watch records: one reader per process, however many
//! watch, and none while nobody does.
//!
//! Invariant: each watcher knows how far it is in every bucket, so that what it misses here, it reads
//! from the store; nothing is lost between the two, and nothing comes twice.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use tokio::time::sleep;
use unitring_protocol::digest::BUCKETS;

use crate::store::{Browse, Listed, StoreError};

/// How often another companion's writes are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long writes here are gathered before they are read.
const GATHER: Duration = Duration::from_millis(10);
/// Looks that a watcher may be behind; then it reads from the store.
const BEHIND_MAX: usize = 64;

/// How far somebody is: the number of the last change of each bucket. As text, these numbers with dots
/// between them, where 0 is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions(Vec<u64>);

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bucket, position) in self.0.iter().enumerate() {
            if bucket > 0 {
                f.write_str(".")?;
            }
            if *position > 0 {
                write!(f, "{position}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Positions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| match part {
            "" => Ok(0),
            part => part.parse(),
        };
        let positions: Result<Vec<u64>, _> = text.split('.').map(number).collect();
        match positions {
            Ok(positions) if positions.len() == BUCKETS => Ok(Self(positions)),
            _ => Err("must be an event's id, as it was sent".to_owned()),
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

impl Positions {
    /// Where all buckets are now.
    ///
    /// # Errors
    /// The store's.
    pub async fn now(store: &dyn Browse) -> Result<Self, StoreError> {
        Ok(Self(store.heads().await?))
    }

    /// Reads what changed since, and goes there.
    ///
    /// # Errors
    /// The store's; then nothing has moved.
    pub async fn advance(&mut self, store: &dyn Browse) -> Result<News, StoreError> {
        let heads = store.heads().await?;
        let (mut news, mut after) = (News::default(), self.clone());
        for (bucket, (head, position)) in (0..=u8::MAX).zip(heads.iter().zip(&mut after.0)) {
            if head < position {
                // The store was emptied, or went back to an older copy.
                news.missed = true;
                *position = *head;
            } else if head > position {
                news.read(store, bucket, position).await?;
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
    pub async fn follow(&mut self, told: &News, store: &dyn Browse) -> Result<News, StoreError> {
        if told.begins {
            return self.advance(store).await;
        }
        let mut news = News {
            missed: told.missed,
            ..News::default()
        };
        let mut after = self.clone();
        for step in &told.steps {
            let Some(position) = after.0.get_mut(usize::from(step.bucket)) else {
                continue;
            };
            if step.number == *position + 1 {
                *position = step.number;
                news.steps.push(step.clone());
            } else if step.number > *position {
                news.read(store, step.bucket, position).await?;
            }
        }
        *self = after;
        Ok(news)
    }
}

impl News {
    /// Reads a bucket on from a position.
    async fn read(
        &mut self,
        store: &dyn Browse,
        bucket: u8,
        position: &mut u64,
    ) -> Result<(), StoreError> {
        let found = store.changes(bucket, *position).await?;
        self.missed |= found.missed;
        for (number, record) in found.changes {
            *position = number;
            self.steps.push(Step {
                bucket,
                number,
                record,
            });
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
    pub async fn run(self, store: Arc<dyn Browse>) {
        let mut positions: Option<Positions> = None;
        loop {
            if self.sender.receiver_count() == 0 {
                positions = None;
                self.woken.notified().await;
                continue;
            }
            let news = match &mut positions {
                Some(positions) => positions.advance(&*store).await,
                None => Positions::now(&*store).await.map(|now| {
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
mod tests {
    use super::*;
    use crate::store::Records as _;
    use crate::store::embedded::Embedded;

    #[test]
    fn positions_read_back_as_written() {
        let mut numbers = vec![0; BUCKETS];
        numbers[3] = 17;
        numbers[255] = u64::MAX;
        let positions = Positions(numbers);
        let text = positions.to_string();
        assert!(text.starts_with("...17."), "{text}");
        assert_eq!(text.parse(), Ok(positions));
        for wrong in ["", "1.2", "x", &text[1..], &format!("{text}.1")] {
            assert!(wrong.parse::<Positions>().is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_change_between_the_two_beginnings_is_not_missed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let store = Embedded::open(&path, "east".parse().unwrap(), false).unwrap();
        let mut watcher = Positions::now(&store).await.unwrap();
        let id = crate::store::contract::id("d", "k");
        store.write(&id, Some(b"v"), 1).await.unwrap();
        // Whoever reads for all begins only now.
        let told = News {
            begins: true,
            ..News::default()
        };
        let news = watcher.follow(&told, &store).await.unwrap();
        assert_eq!(news.steps.len(), 1);
        assert_eq!(watcher, Positions::now(&store).await.unwrap());
        assert_eq!(
            watcher.follow(&news, &store).await.unwrap(),
            News::default(),
            "not twice"
        );
    }
}
