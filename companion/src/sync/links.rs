//! Messages ⇄ the other units. [`amqp`] is the links through RabbitMQ; the driver sees of them only
//! what is here.

pub mod amqp;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use unitring_protocol::ids::UnitId;

use crate::sync::machine::{Lasts, MessageId, Tag};

/// A message to one unit; answered by [`Event::Published`], unless its link goes down first.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Its name in the answer.
    pub id: MessageId,
    /// For how long it is of use.
    pub lasts: Lasts,
    /// The message, which the links share.
    pub bytes: Arc<[u8]>,
}

/// What becomes of a delivery.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It is applied.
    Ack(Tag),
    /// It can't be used: keep it apart, and go on.
    SetAside(Tag, Vec<u8>),
}

/// What links say.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A unit can be sent to.
    Up(UnitId),
    /// It cannot, and why.
    Down(UnitId, String),
    /// The unit's broker takes no message of more bytes.
    Limit(UnitId, usize),
    /// The broker takes nothing for now, and why; or it does again.
    Blocked(UnitId, Option<String>),
    /// This unit's own queue is read.
    InboxUp,
    /// It is not, and why.
    InboxDown(String),
    /// It is connected, but another consumer reads it.
    InboxWaits(String),
    /// A message.
    Delivered(Tag, Vec<u8>),
    /// The broker has a message to a unit on disk, or did not say so.
    Published(UnitId, MessageId, bool),
}

/// The driver's ends of the links. They end when this is dropped.
#[derive(Debug)]
pub struct Links {
    /// To each unit.
    pub publish: BTreeMap<UnitId, mpsc::Sender<Publish>>,
    /// To whoever reads this unit's queue.
    pub verdicts: mpsc::UnboundedSender<Verdict>,
    /// From all of them.
    pub events: mpsc::Receiver<Event>,
    /// What they are.
    pub tasks: JoinSet<()>,
}
