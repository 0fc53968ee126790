//! Calls to the browser and its events: JSON, each ended by a zero byte.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::deadline::PATIENCE;

/// The callers that wait for an answer, by its number, and all events.
#[derive(Debug, Default)]
struct Seen {
    waiting: BTreeMap<u64, oneshot::Sender<Value>>,
    events: Vec<Value>,
}

#[derive(Debug)]
pub(super) struct Pipe {
    to: AsyncMutex<ChildStdin>,
    last: AtomicU64,
    seen: Arc<Mutex<Seen>>,
    reader: JoinHandle<()>,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Pipe {
    pub(super) fn new(to: ChildStdin, from: ChildStdout) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let ours = Arc::clone(&seen);
        let reader = tokio::spawn(async move {
            let mut from = BufReader::new(from);
            let mut message = Vec::new();
            while from
                .read_until(0, &mut message)
                .await
                .is_ok_and(|read| read > 0)
            {
                message.pop();
                if let Ok(message) = serde_json::from_slice(&message) {
                    take(&ours, message);
                }
                message.clear();
            }
            // The browser answers no more.
            locked(&ours).waiting.clear();
        });
        Self {
            to: AsyncMutex::new(to),
            last: AtomicU64::new(0),
            seen,
            reader,
        }
    }

    /// Calls a method, of a page's session or of the browser.
    pub(super) async fn call(
        &self,
        session: Option<&str>,
        method: &str,
        parameters: Value,
    ) -> Result<Value> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let (Some(session), Some(fields)) = (session, message.as_object_mut()) {
            fields.insert("sessionId".to_owned(), session.into());
        }
        let (sender, receiver) = oneshot::channel();
        locked(&self.seen).waiting.insert(id, sender);
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.lock().await.write_all(&bytes).await?;
        let answer = timeout(PATIENCE, receiver)
            .await
            .with_context(|| format!("no answer to {method}"))?;
        let mut answer = answer.context("the browser ended")?;
        if let Some(error) = answer.get("error") {
            bail!("{method}: {error}");
        }
        Ok(answer
            .get_mut("result")
            .map(Value::take)
            .unwrap_or_default())
    }

    /// All events so far.
    pub(super) fn heard(&self) -> Vec<Value> {
        locked(&self.seen).events.clone()
    }
}

fn take(seen: &Mutex<Seen>, message: Value) {
    let mut seen = locked(seen);
    let id = message.get("id").and_then(Value::as_u64);
    match id.and_then(|id| seen.waiting.remove(&id)) {
        // A caller that gave up needs no answer.
        Some(sender) => drop(sender.send(message)),
        None => seen.events.push(message),
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
