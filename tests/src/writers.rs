//! Clients that write records continuously and remember the acknowledged ones.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use reqwest::{Client, Response};
use tokio::task::JoinHandle;

/// The pause between two writes of a client.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a client waits for an answer; after it the outcome is unknown, and the client writes the next
/// key.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The running clients; dropping this ends them.
#[derive(Debug)]
pub struct Writers {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    next: AtomicU64,
    refused: AtomicU64,
    /// The reason of the last refusal.
    refusal: Mutex<String>,
    /// Key → time of its acknowledgement. The value of a record is its key.
    acknowledged: Mutex<BTreeMap<String, Instant>>,
}

impl Writers {
    /// Starts this many clients; the writes go to these ports in turn, each with a new key in the dataset
    /// `steady`.
    pub fn start(count: usize, ports: &[u16]) -> Self {
        let shared = Arc::<Shared>::default();
        let clients = (0..count).map(|_| tokio::spawn(write(Arc::clone(&shared), ports.to_vec())));
        Self {
            tasks: clients.collect(),
            shared,
        }
    }

    /// The records acknowledged so far, and when.
    pub fn acknowledged(&self) -> BTreeMap<String, Instant> {
        self.shared.lock().clone()
    }

    /// The number of writes that were refused or not answered.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Waits until this many more writes are acknowledged.
    ///
    /// # Errors
    /// They are not acknowledged in time.
    pub async fn go_on(&self, more: usize) -> Result<()> {
        let before = self.shared.lock().len();
        crate::deadline::until("writes to be acknowledged", async || {
            let now = self.shared.lock().len();
            let refusal = self.shared.refusal.lock();
            let refusal = refusal.unwrap_or_else(PoisonError::into_inner);
            ensure!(now >= before + more, "{now} after {before}: {refusal}");
            Ok(())
        })
        .await
    }

    /// The longest time without an acknowledgement since this moment.
    pub fn longest_gap_since(&self, start: Instant) -> Duration {
        let mut moments: Vec<Instant> = self.shared.lock().values().copied().collect();
        moments.retain(|moment| *moment >= start);
        moments.push(start);
        moments.sort_unstable();
        let pairs = moments.iter().zip(moments.iter().skip(1));
        let gaps = pairs.map(|(before, after)| after.duration_since(*before));
        gaps.max().unwrap_or_default()
    }

    /// Stops the clients, and waits for their writes in flight.
    ///
    /// # Errors
    /// A client panicked.
    pub async fn stop(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await?;
        }
        Ok(())
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Instant>> {
        self.acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write(shared: Arc<Shared>, ports: Vec<u16>) {
    let client = Client::builder().timeout(TIMEOUT).build();
    let client = client.unwrap_or_default();
    let mut ports = ports.iter().cycle();
    while !shared.stop.load(Ordering::Relaxed) {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let (key, Some(port)) = (format!("k{number:07}"), ports.next()) else {
            return;
        };
        let url = format!("http://127.0.0.1:{port}/v1/data/steady/{key}");
        let answer = client.put(url).body(key.clone()).send().await;
        match outcome(answer).await {
            Ok(()) => {
                shared.lock().insert(key, Instant::now());
            }
            Err(why) => {
                shared.refused.fetch_add(1, Ordering::Relaxed);
                let refusal = shared.refusal.lock();
                *refusal.unwrap_or_else(PoisonError::into_inner) = format!("{why:#}");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn outcome(answer: reqwest::Result<Response>) -> Result<()> {
    let answer = answer?;
    let status = answer.status();
    ensure!(status.is_success(), "{status}: {}", answer.text().await?);
    Ok(())
}
