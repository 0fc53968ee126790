//! Bytes ⇄ envelope. What decodes here keeps every rule that the store relies on.

use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::envelope::{Body, Envelope};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Position, Record};

use crate::replica::digest::bucket_of;

/// The largest message that is read, in bytes: a batch of values in base64, with names.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Clocks, sequences and positions stay under it, so that Redis' Lua, whose numbers are doubles, does
/// not round them.
const EXACT_MAX: u64 = 1 << 53;

/// Why a message is set aside. Trying again would not help.
#[derive(Debug, thiserror::Error)]
pub enum Poison {
    /// Too large.
    #[error("{0} bytes, more than {MESSAGE_BYTES_MAX}")]
    TooLarge(usize),
    /// Not an envelope.
    #[error("not a message: {0}")]
    Malformed(#[from] serde_json::Error),
    /// From a newer program.
    #[error("version {0}, newer than {PROTOCOL_VERSION}: update unitring")]
    Newer(u32),
    /// It says what it must not.
    #[error("{0}")]
    Wrong(&'static str),
}

#[derive(serde::Deserialize)]
struct Versioned {
    version: u32,
}

/// Reads a message for this unit.
///
/// # Errors
/// [`Poison`].
pub fn decode(bytes: &[u8], unit: &UnitId) -> Result<Envelope, Poison> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Poison::TooLarge(bytes.len()));
    }
    let Versioned { version } = serde_json::from_slice(bytes)?;
    if version > PROTOCOL_VERSION {
        return Err(Poison::Newer(version));
    }
    let envelope: Envelope = serde_json::from_slice(bytes)?;
    if envelope.from == *unit {
        return Err(Poison::Wrong("it says that it comes from this unit itself"));
    }
    let is_exact =
        |position: &Position| position.sequence < EXACT_MAX && position.incarnation < EXACT_MAX;
    let is_right = |bucket: u8, record: &Record| {
        let times = [Some(record.version.clock.ms), record.expires_ms];
        bucket_of(&record.id) == bucket && times.iter().flatten().all(|ms| *ms < EXACT_MAX)
    };
    let all_right = match &envelope.body {
        Body::Ops { parts } => parts.iter().all(|part| {
            part.incarnation < EXACT_MAX
                && part
                    .ops
                    .iter()
                    .all(|op| op.sequence < EXACT_MAX && is_right(part.bucket, &op.record))
        }),
        Body::Repair(repair) => {
            repair.clock.ms < EXACT_MAX
                && repair.positions.values().all(is_exact)
                && repair
                    .records
                    .iter()
                    .all(|record| is_right(repair.bucket, record))
        }
        Body::Digests { .. }
        | Body::RepairRequest { .. }
        | Body::FixedRequest {}
        | Body::Fixed(_)
        | Body::Loads { .. }
        | Body::Events { .. } => true,
    };
    if all_right {
        return Ok(envelope);
    }
    Err(Poison::Wrong(
        "a record of another bucket, or a number beyond 2^53",
    ))
}

/// Writes a message of this unit.
///
/// # Errors
/// None in practice: every body has a JSON form.
pub fn encode(unit: &UnitId, body: Body) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Envelope {
        version: PROTOCOL_VERSION,
        from: unit.clone(),
        body,
    })
}
