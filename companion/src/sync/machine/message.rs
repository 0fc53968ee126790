//! Bytes ⇄ envelope. A decoded message keeps every rule that the store relies on.
//!
//! A message that can't be decoded is set aside as a whole. An entry that can't be read or breaks a rule is set aside
//! alone: the rest of its message is applied, and the sequence of an op counts as passed.
//!
//! # Layout
//!
//! | module | arrow |
//! |---|---|
//! | `body` | text → what the message says, kind by kind |
//! | `list` | lists with a bound, and entries that are read alone |
//! | `rules` | what the message says → what the store may take |
//! | `aside` | what is set aside → its name, for people |

mod aside;
mod body;
mod list;
mod rules;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::{io, str};

use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::envelope::{Body, Envelope};
use unitring_protocol::ids::UnitId;

pub(crate) use aside::Asides;
use list::Alone;

/// The largest message that is read, in bytes: a batch of values in base64, with names.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Why a message is set aside. A retry would not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Poison {
    /// It is larger than [`MESSAGE_BYTES_MAX`].
    #[error("{0} bytes, more than {MESSAGE_BYTES_MAX}")]
    TooLarge(usize),
    /// It is not an envelope.
    #[error("not a message: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A newer program wrote it.
    #[error("version {0}, newer than {PROTOCOL_VERSION}: update unitring")]
    Newer(u32),
    #[error("{0}")]
    Wrong(&'static str),
}

/// The envelope, with its content as text.
#[derive(Deserialize)]
struct Head<'a> {
    version: u32,
    #[serde(borrow, default)]
    from: Option<Alone<'a>>,
    #[serde(borrow, default)]
    body: Option<Alone<'a>>,
}

/// Decodes a message for this unit; returns what is set aside of it, too.
///
/// # Errors [`Poison`] if the whole message is set aside.
pub(crate) fn decode(bytes: &[u8], unit: &UnitId) -> Result<(Envelope, Asides), Poison> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Poison::TooLarge(bytes.len()));
    }
    let text = text(bytes);
    let head: Head<'_> = serde_json::from_str(&text)?;
    if head.version > PROTOCOL_VERSION {
        return Err(Poison::Newer(head.version));
    }
    let missing = serde_json::Error::missing_field;
    let from = head.from.ok_or_else(|| missing("from"))?;
    let from: UnitId = serde_json::from_str(from.json())?;
    if from == *unit {
        return Err(Poison::Wrong("its sender is this unit itself"));
    }
    let json = head.body.ok_or_else(|| missing("body"))?.json();
    let mut aside = Asides::default();
    let mut body = body::read(json, &mut aside)?;
    rules::keep(&mut body, &mut aside);
    let version = head.version;
    Ok((
        Envelope {
            version,
            from,
            body,
        },
        aside,
    ))
}

/// The bytes as text. Bytes that are no UTF-8 become half a character, so that the string that has them cannot be read,
/// and all others can.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push_str(r"\ud800");
        }
    }
    Cow::Owned(text)
}

/// An envelope that is written, with a content that somebody else has.
#[derive(Serialize)]
struct Outgoing<'a> {
    version: u32,
    from: &'a UnitId,
    body: &'a Body,
}

impl<'a> Outgoing<'a> {
    fn new(from: &'a UnitId, body: &'a Body) -> Self {
        Self {
            version: PROTOCOL_VERSION,
            from,
            body,
        }
    }
}

/// Encodes a message of this unit.
///
/// # Errors
/// None in practice: every body has a JSON form.
pub(crate) fn encode(unit: &UnitId, body: &Body) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Outgoing::new(unit, body))
}

/// The bytes of an encoded message of this unit.
pub(crate) fn encoded_bytes(unit: &UnitId, body: &Body) -> usize {
    json_bytes(&Outgoing::new(unit, body))
}

/// The bytes of a value in a message.
pub(crate) fn json_bytes(value: &impl Serialize) -> usize {
    let mut bytes = Bytes(0);
    match serde_json::to_writer(&mut bytes, value) {
        Ok(()) => bytes.0,
        Err(_) => usize::MAX,
    }
}

/// Counts what is written.
struct Bytes(usize);

impl io::Write for Bytes {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(written.len());
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
