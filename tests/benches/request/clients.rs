//! One client on one connection, which requests many keys in turn.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use unitring_tests::envoy::Envoy;
use unitring_tests::raw::{self, Raw};

use crate::systems::System;

/// The number of keys.
pub(crate) const KEYS: usize = 100;

pub(crate) struct Client {
    connection: Raw,
    requests: Vec<Vec<u8>>,
    next: usize,
}

impl Client {
    /// `owners` are the instances of the keys; the client itself names them where a system needs that.
    pub(crate) async fn connect(envoy: &Envoy, system: &System, owners: &Owners) -> Result<Self> {
        let keys = keys();
        let requests = keys.iter().map(|key| {
            let mut headers: Vec<(&str, &[u8])> = vec![
                ("host", b"orders.example"),
                ("user-agent", b"bench"),
                ("accept", b"*/*"),
                ("x-user-id", key.as_bytes()),
            ];
            if let Some(owner) = owners.get(key).filter(|_| system.client_names_instance) {
                headers.push(("x-unitring-host", owner.as_bytes()));
            }
            let announces = system.announces.map(|update| update.replace("KEY", key));
            if let Some(update) = &announces {
                headers.push(("x-announce", update.as_bytes()));
            }
            raw::get(b"/cart?item=7", &headers)
        });
        Ok(Self {
            requests: requests.collect(),
            connection: Raw::connect_from(Ipv4Addr::LOCALHOST, envoy.port).await?,
            next: 0,
        })
    }

    /// Sends this many requests, each after the answer to the previous one.
    pub(crate) async fn send(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let request = self.requests.get(self.next).context("no such request")?;
            let answers = self.connection.ask(std::slice::from_ref(request)).await?;
            let status = answers.first().context("no answer")?.status;
            ensure!(status == 200, "answered {status}");
            self.next = (self.next + 1) % self.requests.len();
        }
        Ok(())
    }

    /// The instance that serves each key.
    pub(crate) async fn owners(&mut self) -> Result<Owners> {
        let answers = self.connection.ask(&self.requests).await?;
        let at = answers
            .iter()
            .map(|answer| answer.header("x-at").map(str::to_owned));
        let at: Option<Vec<String>> = at.collect();
        Ok(keys()
            .into_iter()
            .zip(at.context("an answer without x-at")?)
            .collect())
    }
}

/// The address of each key's instance.
pub(crate) type Owners = BTreeMap<String, String>;

fn keys() -> Vec<String> {
    unitring_tests::envoy::keys(KEYS)
}
