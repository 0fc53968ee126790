//! Clients that concurrently change and delete the same few records in several units.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use reqwest::Client;
use tokio::task::JoinHandle;

/// The pause between two changes of a client.
const PAUSE: Duration = Duration::from_millis(10);
const TIMEOUT: Duration = Duration::from_secs(5);
/// The number of records that all clients change.
const KEYS: u64 = 40;

/// The running clients; dropping this ends them.
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

    /// The number of acknowledged changes.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Stops the clients, and waits for their changes in flight.
    ///
    /// # Errors
    /// A client panicked.
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
