//! Messages ⇄ the other units. [`amqp`] is the link through RabbitMQ; the driver sees of it only
//! what is here.

pub mod amqp;

use crate::unit::{MessageId, Route, Tag};

/// What the driver asks of a link.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Publish; answered by [`Event::Published`], unless the link goes down first.
    Publish {
        /// Its name in the answer.
        id: MessageId,
        /// To whom.
        route: Route,
        /// The message.
        bytes: Vec<u8>,
    },
    /// The delivery is applied.
    Ack(Tag),
    /// The delivery can't be read: keep it apart, and go on.
    SetAside(Tag),
}

/// What a link says.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Connected, everything declared.
    Up,
    /// Not connected, and why.
    Down(String),
    /// A message.
    Delivered(Tag, Vec<u8>),
    /// The broker has a message on disk, or did not say so.
    Published(MessageId, bool),
}
