//! A steady load on one or several Envoys, and its outcome.
//!
//! *Open*: requests are due at a steady rate, however slow the answers are, and their latency counts from
//! the time when they were due, so a server that stalls is not spared. *Closed*: a number of clients,
//! each of which waits for its answer before it sends the next request.

pub mod keys;
pub mod outcome;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use reqwest::Client;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::deadline;
use crate::envoy::Envoy;
use keys::{Keys, Numbers};
use outcome::Outcome;

/// Requests in flight of one load; a request that is due beyond it fails at once and is counted.
const IN_FLIGHT_MAX: usize = 4_096;

/// When requests are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// At this rate.
    Open {
        /// Requests a second, above zero.
        per_second: u32,
    },
    /// As fast as this many clients get answers.
    Closed {
        /// The number of clients.
        clients: u32,
    },
}

/// A load to be sent.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// When requests are sent.
    pub pace: Pace,
    /// The keys of the requests.
    pub keys: Keys,
    /// The same seed gives the same keys in the same order.
    pub seed: u64,
}

/// A running load; it ends when it is stopped or dropped.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    stopping: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ports: Vec<u16>,
    numbers: Numbers,
    keys: Keys,
    /// Requests sent so far: the number of the next one.
    sent: u64,
    in_flight: BTreeSet<u64>,
    outcome: Outcome,
}

impl Traffic {
    /// Starts the load; the Envoys get the requests in turn.
    pub fn start(&self, envoys: &[&Envoy]) -> Running {
        let shared = Arc::new(Shared {
            client: Client::new(),
            stopping: AtomicBool::new(false),
            state: Mutex::new(State {
                ports: envoys.iter().map(|envoy| envoy.port).collect(),
                numbers: Numbers::seeded(self.seed),
                keys: self.keys.clone(),
                sent: 0,
                in_flight: BTreeSet::new(),
                outcome: Outcome::default(),
            }),
        });
        let driver = match self.pace {
            Pace::Open { per_second } => tokio::spawn(open(Arc::clone(&shared), per_second)),
            Pace::Closed { clients } => tokio::spawn(closed(Arc::clone(&shared), clients)),
        };
        Running { shared, driver }
    }
}

impl Running {
    /// Sends new requests to these Envoys from now on.
    pub fn turn_to(&self, envoys: &[&Envoy]) {
        self.shared.state().ports = envoys.iter().map(|envoy| envoy.port).collect();
    }

    /// The requests that ended since the start or the last call.
    pub fn take(&self) -> Outcome {
        std::mem::take(&mut self.shared.state().outcome)
    }

    /// Waits until every request sent before now has ended, and this many later ones, too.
    ///
    /// # Errors
    /// The requests never end.
    pub async fn passes(&self, later: u64) -> Result<()> {
        let end = self.shared.state().sent + later;
        deadline::until(&format!("{later} more requests to end"), async || {
            let state = self.shared.state();
            let oldest = state.in_flight.first().copied().unwrap_or(state.sent);
            ensure!(oldest >= end, "request {oldest} has not ended, of {end}");
            Ok(())
        })
        .await
    }

    /// Stops sending, waits for the requests in flight, and returns the requests that ended since
    /// [`Self::take`].
    ///
    /// # Errors
    /// A task of the load panicked.
    pub async fn stop(mut self) -> Result<Outcome> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        (&mut self.driver).await?;
        Ok(self.take())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Takes the next number, with a port and a key for it.
    fn next(&self) -> Option<(u64, u16, String)> {
        let mut state = self.state();
        let number = state.sent;
        let turn = number.checked_rem(u64::try_from(state.ports.len()).ok()?)?;
        let port = *state.ports.get(usize::try_from(turn).ok()?)?;
        let State { numbers, keys, .. } = &mut *state;
        let key = keys.draw(numbers);
        state.sent += 1;
        state.in_flight.insert(number);
        Some((number, port, key))
    }

    async fn send(&self, due: Instant) {
        let Some((number, port, key)) = self.next() else {
            self.state().outcome.failed("no Envoy".to_owned());
            return;
        };
        let url = format!("http://127.0.0.1:{port}/");
        let answer = async {
            let request = self.client.get(url).header("x-user-id", key);
            let response = request.send().await?;
            let status = response.status().as_u16();
            response.bytes().await.map(|_| status)
        };
        let answer = answer.await;
        let mut state = self.state();
        state.in_flight.remove(&number);
        match answer {
            Ok(status) => state.outcome.answered(status, due.elapsed()),
            // The URL has a port that differs between runs.
            Err(error) => state.outcome.failed(format!("{:?}", error.without_url())),
        }
    }
}

async fn open(shared: Arc<Shared>, per_second: u32) {
    let mut due = interval(Duration::from_secs(1) / per_second.max(1));
    // A generator that is late catches up: over any longer time the rate holds.
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut requests = JoinSet::new();
    while !shared.is_stopping() {
        let due = due.tick().await;
        while requests.try_join_next().is_some() {}
        if requests.len() < IN_FLIGHT_MAX {
            let shared = Arc::clone(&shared);
            requests.spawn(async move { shared.send(due).await });
        } else {
            let reason = format!("over {IN_FLIGHT_MAX} in flight");
            shared.state().outcome.failed(reason);
        }
    }
    while requests.join_next().await.is_some() {}
}

async fn closed(shared: Arc<Shared>, clients: u32) {
    let mut all = JoinSet::new();
    for _ in 0..clients {
        let shared = Arc::clone(&shared);
        all.spawn(async move {
            while !shared.is_stopping() {
                shared.send(Instant::now()).await;
            }
        });
    }
    while all.join_next().await.is_some() {}
}
