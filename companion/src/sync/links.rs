//! Messages ⇄ the other units. [`amqp`] implements the links through RabbitMQ; the driver sees only
//! the types here.

pub(crate) mod amqp;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use unitring_protocol::ids::UnitId;
use unitring_protocol::trace::TraceParent;

use crate::sync::machine::{Lasts, MessageId, Tag};

/// A message to one unit. [`Event::Published`] answers it, unless the link goes down first.
#[derive(Debug, Clone)]
pub(crate) struct Publish {
    /// Identifies the message in the answer.
    pub id: MessageId,
    /// How long it is of use.
    pub lasts: Lasts,
    /// The encoded message, which all links share.
    pub bytes: Arc<[u8]>,
    /// The span that sends it, or the first of them.
    pub trace: Option<TraceParent>,
}

/// How a delivery is settled.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// It was handled: acknowledge it.
    Ack(Tag),
    /// It can't be used: move it to the poison queue and go on.
    SetAside(Tag, Vec<u8>),
}

/// An event of the links.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// The link to a unit is up.
    Up(UnitId),
    /// The link to a unit is down, and why.
    Down(UnitId, String),
    /// The unit's broker takes no message of more bytes.
    Limit(UnitId, usize),
    /// The broker blocks the connection for a reason, or (`None`) unblocks it.
    Blocked(UnitId, Option<String>),
    /// This unit's own queue is being read.
    InboxUp,
    /// This unit's own queue is not read, and why.
    InboxDown(String),
    /// The link in is connected, but another consumer reads the queue.
    InboxWaits(String),
    /// A message arrived.
    Delivered(Tag, Vec<u8>),
    /// Whether the broker confirmed a message to a unit, and so has it on disk.
    Published(UnitId, MessageId, bool),
}

/// The driver's ends of the links. The links stop when this is dropped.
#[derive(Debug)]
pub(crate) struct Links {
    /// Messages to each unit.
    pub publish: BTreeMap<UnitId, mpsc::Sender<Publish>>,
    /// Verdicts to the reader of this unit's queue.
    pub verdicts: mpsc::UnboundedSender<Verdict>,
    pub events: mpsc::Receiver<Event>,
    /// The tasks that run the links, which end with it.
    pub _tasks: JoinSet<()>,
}
