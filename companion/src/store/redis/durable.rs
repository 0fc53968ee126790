//! Writes that are acknowledged once replicas have them.
//!
//! `WAIT` covers the writes of its own connection, and blocks that connection. So such writes have
//! connections of their own, and are sent in groups, like a group commit: while one group waits the
//! next one gathers, and one `WAIT` serves a whole group. A replica that hangs then costs a write
//! at most two timeouts, however many writes there are.
//!
//! Scripts and `WAIT` are one pipeline: after a reconnect in between, `WAIT` would cover nothing.

use std::sync::Arc;

use redis::{Cmd, RedisResult, Script, Value};
use tokio::sync::{mpsc, oneshot};

use super::connection::Connection;
use crate::config::Wait;
use crate::store::StoreError;

/// Most writes that gather in a lane; further writes wait to enter.
const GATHERED_MAX: usize = 1_024;
/// Most writes of a group.
const GROUP_MAX: usize = 256;
/// Lanes to a Redis Cluster, where a group may touch one bucket only.
const CLUSTER_LANES: usize = 16;

/// The lanes for such writes.
#[derive(Clone)]
pub(super) struct Durable {
    lanes: Vec<mpsc::Sender<Write>>,
    /// The connections of the lanes.
    connections: Vec<Connection>,
}

/// A write that waits for its answer.
struct Write {
    bucket: u8,
    call: Cmd,
    answer: oneshot::Sender<Result<Value, StoreError>>,
}

/// One connection, and its writes.
struct Lane {
    connection: Connection,
    /// The scripts that writes call.
    scripts: Arc<[Script]>,
    wait: Wait,
    /// The first write that did not fit into the last group.
    left: Option<Write>,
}

impl Durable {
    /// Opens the lanes; they connect when they are needed. Needs a tokio runtime.
    pub(super) fn start<E>(
        connect: impl Fn() -> Result<Connection, E>,
        scripts: &[Script],
        wait: Wait,
    ) -> Result<Self, E> {
        let scripts: Arc<[Script]> = scripts.into();
        let first = connect()?;
        let count = match &first {
            Connection::Primary(_) => 1,
            Connection::Cluster(_) => CLUSTER_LANES,
        };
        let mut connections = vec![first];
        while connections.len() < count {
            connections.push(connect()?);
        }
        let mut lanes = Vec::with_capacity(count);
        for connection in connections.clone() {
            let (sender, writes) = mpsc::channel(GATHERED_MAX);
            let lane = Lane {
                connection,
                scripts: Arc::clone(&scripts),
                wait,
                left: None,
            };
            tokio::spawn(lane.run(writes));
            lanes.push(sender);
        }
        Ok(Self { lanes, connections })
    }

    pub(super) fn connections(&self) -> &[Connection] {
        &self.connections
    }

    /// Makes a write by a script call, and waits for its answer.
    pub(super) async fn write(&self, bucket: u8, call: Cmd) -> Result<Value, StoreError> {
        let gone = || StoreError::Away("its connection has ended".to_owned());
        let lane = usize::from(bucket) % self.lanes.len().max(1);
        let lane = self.lanes.get(lane).ok_or_else(gone)?;
        let (answer, answered) = oneshot::channel();
        let write = Write {
            bucket,
            call,
            answer,
        };
        lane.send(write).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Lane {
    /// Sends group after group, until all senders are dropped.
    async fn run(mut self, mut writes: mpsc::Receiver<Write>) {
        loop {
            let first = match self.left.take() {
                Some(left) => left,
                None => match writes.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let group = self.gathered(first, &mut writes);
            let calls: Vec<&Cmd> = group.iter().map(|write| &write.call).collect();
            let answers = self.answers(&calls).await;
            for (write, answer) in group.into_iter().zip(answers) {
                // The caller may have given up.
                drop(write.answer.send(answer));
            }
        }
    }

    /// The first write, and those behind it that may join its group.
    fn gathered(&mut self, first: Write, writes: &mut mpsc::Receiver<Write>) -> Vec<Write> {
        let is_cluster = matches!(self.connection, Connection::Cluster(_));
        let bucket = first.bucket;
        let mut group = vec![first];
        while group.len() < GROUP_MAX {
            match writes.try_recv() {
                Ok(write) if is_cluster && write.bucket != bucket => {
                    self.left = Some(write);
                    break;
                }
                Ok(write) => group.push(write),
                Err(_) => break,
            }
        }
        group
    }

    /// An answer to each call, in order.
    async fn answers(&mut self, calls: &[&Cmd]) -> Vec<Result<Value, StoreError>> {
        let mut answers = self.sent(calls).await;
        // A restarted server or another primary does not have the scripts: these writes were not
        // made.
        let is_unknown = |answer: &RedisResult<Value>| {
            let error = answer.as_ref().err();
            error.is_some_and(|error| error.code() == Some("NOSCRIPT"))
        };
        let all = answers.as_ref().map_or(&[][..], Vec::as_slice);
        let unknown: Vec<usize> = (0..all.len())
            .filter(|place| all.get(*place).is_some_and(is_unknown))
            .collect();
        if !unknown.is_empty() {
            let again = unknown
                .iter()
                .filter_map(|place| calls.get(*place).copied());
            let again: Vec<&Cmd> = again.collect();
            let again = match self.load().await {
                Ok(()) => self.sent(&again).await,
                Err(error) => Err(error),
            };
            answers = answers.and_then(|mut answers| {
                let mut again = again?;
                // The answer of the second `WAIT`, which covers all writes.
                if let (Some(wait), Some(last)) = (again.pop(), answers.last_mut()) {
                    *last = wait;
                }
                for (place, answer) in unknown.into_iter().zip(again) {
                    if let Some(place) = answers.get_mut(place) {
                        *place = answer;
                    }
                }
                Ok(answers)
            });
        }
        let answers = answers.and_then(|mut answers| {
            let replicas = answers.pop().unwrap_or(Ok(Value::Nil))?;
            Ok((answers, redis::from_redis_value::<u64>(replicas)?))
        });
        match answers {
            Err(error) => calls.iter().map(|_| Err(error.clone().into())).collect(),
            Ok((answers, has)) => {
                let wanted = self.wait.replicas;
                let is_enough = has >= wanted;
                let of = |answer: RedisResult<Value>| match answer {
                    Ok(_) if !is_enough => Err(StoreError::NotReplicated { has, wanted }),
                    answer => Ok(answer?),
                };
                answers.into_iter().map(of).collect()
            }
        }
    }

    async fn load(&mut self) -> RedisResult<()> {
        for script in self.scripts.iter() {
            let _: String = script
                .prepare_invoke()
                .load_async(&mut self.connection)
                .await?;
        }
        Ok(())
    }

    /// The server's answer to each call, and to the `WAIT` behind them.
    async fn sent(&mut self, calls: &[&Cmd]) -> RedisResult<Vec<RedisResult<Value>>> {
        let timeout_ms = u64::try_from(self.wait.timeout.as_millis()).unwrap_or(u64::MAX);
        let mut all = redis::pipe();
        all.ignore_errors();
        for call in calls {
            all.add_command((*call).clone());
        }
        all.cmd("WAIT").arg(self.wait.replicas).arg(timeout_ms);
        all.query_async(&mut self.connection).await
    }
}
