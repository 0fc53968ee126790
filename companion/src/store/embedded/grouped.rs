//! Writes that come at the same time become durable together: one transaction and one flush for all of them, since
//! the flush takes nearly all of a write's time.
//!
//! Each write is as if it stood alone: if one of them fails, all are undone and made one by one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{Durability, WriteTransaction};
use tokio::sync::oneshot;

use super::{Embedded, away, off_thread, span};
use crate::store::{Outcome, StoreError};
use crate::trace;

/// Most writes of one transaction: they wait for each other.
const WRITES_MAX: usize = 128;

/// A write, which may have to be made again.
type Write = dyn Fn(&WriteTransaction, &Embedded) -> Result<Outcome, StoreError> + Send;

/// The caller that waits for a write.
type Waiter = oneshot::Sender<Result<Outcome, StoreError>>;

/// The writes that wait for a transaction.
#[derive(Default)]
pub(super) struct Waiting {
    writes: Mutex<Vec<(Box<Write>, Waiter)>>,
    /// Held by the thread that makes a transaction.
    turn: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Embedded {
    /// Makes a write, durable when it is answered.
    pub(super) async fn write_grouped(
        &self,
        write: impl Fn(&WriteTransaction, &Self) -> Result<Outcome, StoreError> + Send + 'static,
    ) -> Result<Outcome, StoreError> {
        let (sender, outcome) = oneshot::channel();
        lock(&self.waiting.writes).push((Box::new(write), sender));
        let store = self.clone();
        let made = async {
            off_thread(move || {
                store.make_waiting();
                Ok(())
            })
            .await?;
            outcome.await.map_err(away)?
        };
        trace::call(span("write"), made).await
    }

    /// Makes the waiting writes. The caller's own is among them unless another thread has made it.
    fn make_waiting(&self) {
        let _turn = lock(&self.waiting.turn);
        loop {
            let writes: Vec<_> = {
                let mut writes = lock(&self.waiting.writes);
                let count = writes.len().min(WRITES_MAX);
                writes.drain(..count).collect()
            };
            if writes.is_empty() {
                return;
            }
            let (writes, senders): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
            let outcomes: Vec<_> = match self.make_together(&writes) {
                Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
                // The disk fails: another try with the same writes could make them twice.
                Err(StoreError::Away(why)) => {
                    let away = || Err(StoreError::Away(why.clone()));
                    writes.iter().map(|_| away()).collect()
                }
                Err(_) => self.make_each(&writes),
            };
            for (sender, outcome) in senders.into_iter().zip(outcomes) {
                // Its caller may have left.
                let _left = sender.send(outcome);
            }
        }
    }

    fn make_together(&self, writes: &[Box<Write>]) -> Result<Vec<Outcome>, StoreError> {
        self.write_unless(Durability::Immediate, |transaction, store| {
            let outcomes = writes.iter().map(|write| write(transaction, store));
            let outcomes = outcomes.collect::<Result<Vec<_>, _>>()?;
            let changes = outcomes.iter().any(changes);
            Ok((outcomes, changes))
        })
    }

    fn make_each(&self, writes: &[Box<Write>]) -> Vec<Result<Outcome, StoreError>> {
        let each = writes.iter().map(|write| {
            let outcome = self.make_together(std::slice::from_ref(write))?.pop();
            outcome.ok_or_else(|| away("a write without an outcome"))
        });
        each.collect()
    }
}

/// Whether a write may have changed something; a deletion of nothing leaves stamps.
fn changes(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done(_) | Outcome::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::{Change, Condition};
    use crate::store::{Records as _, contract};
    use futures::future::join_all;

    #[tokio::test]
    async fn of_writes_that_are_made_together_each_has_its_own_outcome() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("east.redb");
        let store = Embedded::open(&path, "east".parse().unwrap(), true).unwrap();
        let ids: Vec<_> = (0..300)
            .map(|number| contract::id("d", &format!("{number}")))
            .collect();
        let put = Change::Put {
            value: b"v",
            expires_ms: None,
        };
        let absent = Condition::Absent;
        let twice = ids.iter().chain(&ids);
        let writes = twice.map(|id| store.write_if(id, put, &absent, 1_000));
        let outcomes = join_all(writes).await;
        let done = |outcome: &Result<Outcome, StoreError>| matches!(outcome, Ok(Outcome::Done(_)));
        assert_eq!(
            outcomes.iter().filter(|outcome| done(outcome)).count(),
            ids.len()
        );
        assert!(outcomes.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn one_that_fails_takes_no_other_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("east.redb");
        let store = Embedded::open(&path, "east".parse().unwrap(), true).unwrap();
        let id = contract::id("d", "k");
        let good = store.write_grouped(move |transaction, store| {
            let write = (Change::Delete, &Condition::Any);
            super::super::records::write(
                transaction,
                store,
                &contract::id("d", "k"),
                write,
                (None, 1),
            )
        });
        let bad = store.write_grouped(|_, _| Err(StoreError::Corrupt("no".to_owned())));
        let put = store.write(&id, Some(b"v"), 1);
        let (good, bad, put) = tokio::join!(good, bad, put);
        assert!(bad.is_err());
        assert!(good.is_ok() && put.is_ok());
    }
}
