//! Clients that change the same few records in several units at once, and delete them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use reqwest::Client;
use tokio::task::JoinHandle;

/// From one change of a client to its next.
const PAUSE: Duration = Duration::from_millis(10);
const TIMEOUT: Duration = Duration::from_secs(5);
/// Records that all of them change.
const KEYS: u64 = 40;

/// The clients; they end with this.
#[derive(Debug)]
pub struct Rivals {
    stop: Arc<AtomicBool>,
    changes: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Rivals {
    /// Starts a client for each of these ports; all change the records of the dataset `shared`.
    pub fn start(ports: &[u16]) -> Self {
        let (stop, changes) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let tasks = (1..).zip(ports).map(|(seed, port)| {
            let (stop, changes) = (Arc::clone(&stop), Arc::clone(&changes));
            tokio::spawn(change(seed, *port, stop, changes))
        });
        Self {
            tasks: tasks.collect(),
            stop,
            changes,
        }
    }

    /// Changes that were acknowledged.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Stops them, and waits for the changes under way.
    ///
    /// # Errors
    /// A client broke.
    pub async fn stop(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await?;
        }
        Ok(())
    }
}

impl Drop for Rivals {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn change(seed: u64, port: u16, stop: Arc<AtomicBool>, changes: Arc<AtomicU64>) {
    let client = Client::builder().timeout(TIMEOUT).build();
    let client = client.unwrap_or_default();
    let mut roll = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    while !stop.load(Ordering::Relaxed) {
        roll ^= roll << 13;
        roll ^= roll >> 7;
        roll ^= roll << 17;
        let url = format!("http://127.0.0.1:{port}/v1/data/shared/k{}", roll % KEYS);
        let request = match (roll >> 32) % 10 {
            0..4 => client.delete(url),
            _ => client.put(url).body(format!("{seed}-{roll}")),
        };
        let answer = request.send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            changes.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
