//! Bytes ⇄ envelope. A decoded message keeps every rule that the store relies on.
//!
//! A message that can't be decoded is set aside as a whole. A record that breaks a rule is set
//! aside alone: the rest of its message is applied, and its sequence counts as passed.

use serde_json::Value;
use unitring_protocol::PROTOCOL_VERSION;
use unitring_protocol::envelope::{Body, Envelope, Part};
use unitring_protocol::ids::UnitId;
use unitring_protocol::record::{Clock, Op, Position, Record};

use crate::replica::bounds::{EXACT_MAX, Fault, fault};
use crate::replica::digest::bucket_of;

/// The largest message that is read, in bytes: a batch of values in base64, with names.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Characters that are kept of the name and of the reason of a record set aside.
const ASIDE_CHARS_MAX: usize = 256;

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

/// A record that is set aside alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aside {
    /// The record's name, as far as the message has it.
    pub name: String,
    pub why: String,
}

impl Aside {
    fn new(name: impl ToString, why: impl ToString) -> Self {
        let short = |text: String| text.chars().take(ASIDE_CHARS_MAX).collect();
        Self {
            name: short(name.to_string()),
            why: short(why.to_string()),
        }
    }
}

#[derive(serde::Deserialize)]
struct Versioned {
    version: u32,
}

/// Decodes a message for this unit; returns the records that are set aside, too.
///
/// # Errors [`Poison`] if the whole message is set aside.
pub(crate) fn decode(bytes: &[u8], unit: &UnitId) -> Result<(Envelope, Vec<Aside>), Poison> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Poison::TooLarge(bytes.len()));
    }
    let Versioned { version } = serde_json::from_slice(bytes)?;
    if version > PROTOCOL_VERSION {
        return Err(Poison::Newer(version));
    }
    let mut aside = Vec::new();
    let mut envelope: Envelope = match serde_json::from_slice(bytes) {
        Ok(envelope) => envelope,
        // Perhaps a single record is malformed.
        Err(_) => {
            let mut message: Value = serde_json::from_slice(bytes)?;
            without_malformed(&mut message, &mut aside);
            serde_json::from_value(message)?
        }
    };
    if envelope.from == *unit {
        return Err(Poison::Wrong("its sender is this unit itself"));
    }
    let is_exact =
        |position: &Position| position.sequence < EXACT_MAX && position.incarnation < EXACT_MAX;
    match &mut envelope.body {
        Body::Ops { parts } => {
            parts.retain(|part| {
                let is_right = part.incarnation < EXACT_MAX;
                if !is_right {
                    aside.push(Aside::new(
                        format!("bucket {}", part.bucket),
                        Fault::Inexact,
                    ));
                }
                is_right
            });
            for part in parts {
                keep_right(part, &mut aside);
            }
        }
        Body::Repair(repair) => {
            let bucket = repair.bucket;
            repair
                .records
                .retain(|record| is_right(bucket, record, &mut aside));
            repair.positions.retain(|_, position| is_exact(position));
            if repair.clock.ms >= EXACT_MAX {
                repair.clock = Clock::default();
            }
        }
        Body::Digests { buckets, .. } => {
            for state in buckets {
                state.positions.retain(|_, position| is_exact(position));
            }
        }
        Body::RepairRequest { .. }
        | Body::FixedRequest {}
        | Body::Fixed(_)
        | Body::Loads { .. }
        | Body::Events { .. } => {}
    }
    Ok((envelope, aside))
}

/// Whether a record may go to the store; otherwise it is set aside.
fn is_right(bucket: u8, record: &Record, aside: &mut Vec<Aside>) -> bool {
    let other = (bucket_of(&record.id) != bucket).then_some(Fault::OtherBucket);
    match fault(record).or(other) {
        Some(fault) => {
            aside.push(Aside::new(&record.id, fault));
            false
        }
        None => true,
    }
}

/// Keeps the ops of a part that may go to the store; the sequences of the others count as passed.
fn keep_right(part: &mut Part, aside: &mut Vec<Aside>) {
    let (bucket, passed) = (part.bucket, &mut part.passed);
    part.ops.retain(|op| {
        let keeps = op.sequence < EXACT_MAX && is_right(bucket, &op.record, aside);
        if !keeps {
            passed.insert(op.sequence);
        }
        keeps
    });
    passed.retain(|sequence| *sequence < EXACT_MAX);
}

/// Removes malformed records from a message.
fn without_malformed(message: &mut Value, aside: &mut Vec<Aside>) {
    let Some(body) = message.get_mut("body").and_then(Value::as_object_mut) else {
        return;
    };
    let named = |entry: &Value, error: &serde_json::Error| {
        let text = |name| entry.get(name).and_then(Value::as_str).unwrap_or("?");
        Aside::new(format!("{}/{}", text("dataset"), text("key")), error)
    };
    if let Some(records) = body.get_mut("records").and_then(Value::as_array_mut) {
        records.retain(
            |record| match serde_json::from_value::<Record>(record.clone()) {
                Ok(_) => true,
                Err(error) => {
                    aside.push(named(record, &error));
                    false
                }
            },
        );
    }
    for part in body
        .get_mut("parts")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let mut passed = Vec::new();
        if let Some(ops) = part.get_mut("ops").and_then(Value::as_array_mut) {
            ops.retain(|op| match serde_json::from_value::<Op>(op.clone()) {
                Ok(_) => true,
                Err(error) => {
                    aside.push(named(op, &error));
                    passed.extend(op.get("sequence").filter(|it| it.is_u64()).cloned());
                    false
                }
            });
        }
        if let Some(part) = part.as_object_mut() {
            let known = part
                .entry("passed")
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Some(known) = known.as_array_mut() {
                known.extend(passed);
            }
        }
    }
}

/// Encodes a message of this unit.
///
/// # Errors
/// None in practice: every body has a JSON form.
pub(crate) fn encode(unit: &UnitId, body: Body) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Envelope {
        version: PROTOCOL_VERSION,
        from: unit.clone(),
        body,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;
    use unitring_protocol::record::RecordId;

    use super::*;

    fn op(sequence: u64, key: &str, at: &str, value: Value) -> Value {
        json!({"sequence": sequence, "dataset": "d", "key": key, "at": at, "value": value})
    }

    fn decoded(ops: &[Value]) -> (Part, Vec<Aside>) {
        let id = RecordId {
            dataset: "d".parse().unwrap(),
            key: "k".parse().unwrap(),
        };
        let parts = json!([{"bucket": bucket_of(&id), "incarnation": 1, "ops": ops}]);
        let message =
            json!({"version": 1, "from": "west", "body": {"kind": "ops", "parts": parts}});
        let (envelope, aside) =
            decode(message.to_string().as_bytes(), &"east".parse().unwrap()).unwrap();
        let Body::Ops { mut parts } = envelope.body else {
            panic!("{envelope:?}")
        };
        (parts.remove(0), aside)
    }

    #[test]
    fn a_record_that_breaks_a_rule_is_set_aside_alone_and_its_sequence_is_passed() {
        let good = |sequence| op(sequence, "k", "5.0@west", json!("dg=="));
        let inexact = format!("{}.0@west", 1_u64 << 53);
        for (bad, why) in [
            (op(2, "k", &inexact, json!("dg==")), "2^53"),
            (op(2, "k", "no version", json!("dg==")), "version"),
            (op(2, "k", "5.0@west", json!("?")), "Invalid"),
            (
                op(2, "k", "5.0@west", json!("x".repeat(1_500_000))),
                "1 MiB",
            ),
            (op(2, "a\u{1}", "5.0@west", json!("dg==")), "control"),
            (op(2, "other", "5.0@west", json!("dg==")), "bucket"),
        ] {
            let (part, aside) = decoded(&[good(1), bad.clone(), good(3)]);
            let sequences: Vec<u64> = part.ops.iter().map(|op| op.sequence).collect();
            assert_eq!(sequences, [1, 3], "{why}");
            assert_eq!(part.passed, BTreeSet::from([2]), "{why}");
            assert_eq!(aside.len(), 1, "{why}");
            assert!(aside[0].why.contains(why), "{:?}", aside[0]);
            assert!(aside[0].name.starts_with("d/"), "{:?}", aside[0]);
        }
    }
}
