//! Writes that are acknowledged once replicas have them.
//!
//! `WAIT` is about the writes of its own connection, and holds that connection up. So such writes
//! have connections of their own, and are sent in groups, as a log is committed: while one group
//! waits the next one gathers, and one `WAIT` serves all of it. A replica that hangs then costs a write
//! two timeouts at the most, however many writes there are.
//!
//! Scripts and `WAIT` are one pipeline: a connection that was made anew in between would have nothing
//! to wait for.

use redis::{Cmd, RedisError, RedisResult, Script, Value};
use tokio::sync::{mpsc, oneshot};

use super::connection::Connection;
use crate::config::Wait;
use crate::store::StoreError;

/// Writes that may gather in one lane; more of them wait to get in.
const GATHERED_MAX: usize = 1_024;
/// Writes of one group.
const GROUP_MAX: usize = 256;
/// Lanes to a Redis Cluster, where a group may touch one bucket only.
const CLUSTER_LANES: usize = 16;

/// Where such writes are sent from.
#[derive(Clone)]
pub(super) struct Durable {
    lanes: Vec<mpsc::Sender<Write>>,
}

/// A write on its way.
struct Write {
    bucket: u8,
    call: Cmd,
    answer: oneshot::Sender<Result<Value, StoreError>>,
}

/// One connection, and how it is used.
struct Lane {
    connection: Connection,
    /// The script that all writes call.
    script: Script,
    wait: Wait,
    /// The first write that did not fit into the last group.
    left: Option<Write>,
}

impl Durable {
    /// Opens the connections; they are made when they are needed. Needs a tokio runtime.
    pub(super) fn start<E>(
        connect: impl Fn() -> Result<Connection, E>,
        script: &Script,
        wait: Wait,
    ) -> Result<Self, E> {
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
        for connection in connections {
            let (sender, writes) = mpsc::channel(GATHERED_MAX);
            let lane = Lane {
                connection,
                script: script.clone(),
                wait,
                left: None,
            };
            tokio::spawn(lane.run(writes));
            lanes.push(sender);
        }
        Ok(Self { lanes })
    }

    /// Makes a write, by a call of the script.
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
    /// Sends group after group, until nobody is left to write.
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
                // Whoever gave up does not want it any more.
                drop(write.answer.send(answer));
            }
        }
    }

    /// The first write with those behind it that may go along.
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
        let is_unknown = |error: &RedisError| error.code() == Some("NOSCRIPT");
        let first = answers.as_ref().ok().and_then(|answers| answers.first());
        // A server that started again, or another primary: none of them was run.
        if first.is_some_and(|answer| answer.as_ref().is_err_and(is_unknown)) {
            answers = match self
                .script
                .prepare_invoke()
                .load_async(&mut self.connection)
                .await
            {
                Ok(_) => self.sent(calls).await,
                Err(error) => Err(error),
            };
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

    /// What the server says to each call, and to the `WAIT` behind them.
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
