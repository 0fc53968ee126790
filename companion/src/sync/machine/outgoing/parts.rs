//! Ops → messages within their broker's limit.

use std::collections::BTreeSet;

use unitring_protocol::envelope::Part;
use unitring_protocol::record::{Op, RecordId};

use super::super::message::json_bytes;
use super::superseded::skip;

/// The op that passes this many bytes ends a message.
const MESSAGE_BYTES: usize = 1 << 20;
/// Most bytes of a message beside its ops: names of units, numbers of a part.
const MESSAGE_HEAD_BYTES: usize = 16 << 10;
/// Estimated bytes of an op beside its value.
const OP_BYTES: usize = 192;
/// Most bytes of a part beside its ops and of a passed sequence.
const PART_BYTES: usize = 128;
const PASSED_BYTES: usize = 24;

/// Estimated bytes of an op in a message; for a broker with a limit they are [`json_bytes`].
fn op_bytes(op: &Op) -> usize {
    let value = op.record.value.as_ref().map_or(0, |value| value.0.len());
    OP_BYTES + value
}

/// Records that no message can hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Large {
    /// How many changes were left out.
    pub(super) count: usize,
    /// Their records with the sizes, without those of which a later change is sent.
    pub(super) records: Vec<(RecordId, usize)>,
}

/// Leaves out ops that no message under this limit can hold, and counts their sequences as passed.
pub(super) fn leave_out(parts: &mut [Part], limit: usize) -> Large {
    let mut large = Large::default();
    for part in parts {
        let passed = &mut part.passed;
        part.ops.retain(|op| {
            let bytes = json_bytes(op).saturating_add(MESSAGE_HEAD_BYTES);
            large.records.retain(|(id, _)| *id != op.record.id);
            if bytes > limit {
                passed.insert(op.sequence);
                large.count += 1;
                large.records.push((op.record.id.clone(), bytes));
            }
            bytes <= limit
        });
    }
    large
}

/// How ops become messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Form {
    /// The most that a broker takes, if it reported that.
    pub(super) limit: Option<usize>,
    /// Whether the readers know of passed sequences, so that superseded ops can be left out.
    pub(super) skips: bool,
}

/// Messages of bounded size, and how many superseded ops are not in them.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pub(super) messages: Vec<Vec<Part>>,
    pub(super) superseded: usize,
}

/// Splits parts into messages, in order; a part that is too large is cut.
pub(super) fn messages(parts: Vec<Part>, form: Form) -> Messages {
    let limit = match form.limit {
        Some(limit) => limit.min(MESSAGE_BYTES).saturating_sub(MESSAGE_HEAD_BYTES),
        None => MESSAGE_BYTES,
    };
    let size = |op: &Op| match form.limit {
        Some(_) => json_bytes(op) + 1,
        None => op_bytes(op),
    };
    let mut all = Messages::default();
    let mut bytes = 0;
    for part in parts {
        for part in pieces(part, (limit, form), size, &mut all.superseded) {
            let part_bytes = part_bytes(&part, size);
            if bytes > 0 && bytes + part_bytes > limit {
                bytes = 0;
            }
            if bytes == 0 {
                all.messages.push(Vec::new());
            }
            bytes += part_bytes;
            if let Some(last) = all.messages.last_mut() {
                last.push(part);
            }
        }
    }
    all
}

fn part_bytes(part: &Part, size: impl Fn(&Op) -> usize) -> usize {
    let ops: usize = part.ops.iter().map(size).sum();
    ops + PART_BYTES + part.passed.len() * PASSED_BYTES
}

/// A part in pieces that fit. An op is skipped only in the piece that has the op that supersedes it: who applies the
/// one knows the other.
fn pieces(
    mut part: Part,
    (limit, form): (usize, Form),
    size: impl Fn(&Op) -> usize,
    superseded: &mut usize,
) -> Vec<Part> {
    if form.limit.is_none() {
        *superseded += if form.skips { skip(&mut part) } else { 0 };
        return vec![part];
    }
    if form.skips {
        let mut short = part.clone();
        let skipped = skip(&mut short);
        if skipped > 0 && part_bytes(&short, &size) <= limit {
            *superseded += skipped;
            return vec![short];
        }
    }
    let mut pieces = cut(part, limit, size);
    if form.skips {
        *superseded += pieces.iter_mut().map(skip).sum::<usize>();
    }
    pieces
}

/// Cuts a part into pieces of this size. Only the first may say that ops before it are missing.
fn cut(part: Part, limit: usize, size: impl Fn(&Op) -> usize) -> Vec<Part> {
    if part_bytes(&part, &size) <= limit {
        return vec![part];
    }
    let (bucket, incarnation, mut skipped) = (part.bucket, part.incarnation, part.skipped);
    let (mut pieces, mut passed) = (Vec::new(), part.passed);
    let mut ops: Vec<Op> = Vec::new();
    let mut bytes = 0;
    let mut piece = |ops: Vec<Op>, passed: BTreeSet<u64>| {
        pieces.push(Part {
            bucket,
            incarnation,
            skipped: std::mem::take(&mut skipped),
            ops,
            passed,
        });
    };
    for op in part.ops {
        let op_bytes = size(&op);
        if bytes + op_bytes > limit && !ops.is_empty() {
            let rest = passed.split_off(&op.sequence);
            piece(
                std::mem::take(&mut ops),
                std::mem::replace(&mut passed, rest),
            );
            bytes = 0;
        }
        bytes += op_bytes;
        ops.push(op);
    }
    piece(ops, passed);
    pieces
}

#[cfg(test)]
mod tests {
    use unitring_protocol::record::{Record, Value};

    use super::*;

    /// Ops of records of their own, with values of these sizes.
    fn part(sizes: &[usize]) -> Part {
        let ops = (1..).zip(sizes).map(|(sequence, bytes)| Op {
            sequence,
            record: Record {
                id: RecordId {
                    dataset: "d".parse().unwrap(),
                    key: format!("k{sequence}").parse().unwrap(),
                },
                version: format!("{sequence}.0@a").parse().unwrap(),
                value: Some(Value(vec![0; *bytes])),
                expires_ms: None,
            },
            over: None,
            trace: None,
        });
        Part {
            bucket: 1,
            incarnation: 5,
            skipped: true,
            ops: ops.collect(),
            passed: BTreeSet::new(),
        }
    }

    /// The same of one record, each change over the one before.
    fn chain(sizes: &[usize]) -> Part {
        let mut part = part(sizes);
        let mut over = "0.1@a".parse().unwrap();
        for op in &mut part.ops {
            op.record.id.key = "k".parse().unwrap();
            op.over = Some(std::mem::replace(&mut over, op.record.version.clone()));
        }
        part
    }

    const LIMITED: Form = Form {
        limit: Some(200_000),
        skips: true,
    };

    #[test]
    fn what_a_broker_does_not_take_is_passed_and_the_rest_fits_its_messages() {
        let limit = 200_000;
        let mut parts = [part(&[60_000, 900_000, 60_000, 60_000, 60_000])];
        let large = leave_out(&mut parts, limit);
        assert_eq!((large.count, large.records.len()), (1, 1));
        assert_eq!(large.records[0].0.key.as_str(), "k2");
        assert_eq!(parts[0].passed, BTreeSet::from([2]));
        let sent = messages(parts.to_vec(), LIMITED).messages;
        let mut sequences = Vec::new();
        for (number, parts) in sent.iter().enumerate() {
            let bytes = serde_json::to_vec(parts).unwrap().len();
            assert!(bytes < limit, "{bytes}");
            for part in parts {
                assert_eq!(part.skipped, number == 0);
                sequences.extend(part.ops.iter().map(|op| op.sequence));
                sequences.extend(&part.passed);
            }
        }
        sequences.sort_unstable();
        assert_eq!(sequences, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_record_whose_later_change_fits_is_not_named() {
        let mut parts = [chain(&[900_000, 10]), chain(&[10, 900_000])];
        let large = leave_out(&mut parts[..1], 200_000);
        assert_eq!((large.count, large.records.len()), (1, 0));
        let large = leave_out(&mut parts[1..], 200_000);
        assert_eq!((large.count, large.records.len()), (1, 1));
    }

    #[test]
    fn an_op_is_skipped_only_in_the_message_of_the_op_that_supersedes_it() {
        // Without the superseded ones all fit into one message.
        let sent = messages(vec![chain(&[60_000; 8])], LIMITED);
        assert_eq!((sent.messages.len(), sent.superseded), (1, 7));
        let only = &sent.messages[0][0];
        assert_eq!((only.ops.len(), only.passed.len()), (1, 7));
        assert_eq!(only.ops[0].sequence, 8);
        // Two records, whose last changes need a message each.
        let mut both = chain(&[60_000, 60_000, 120_000, 60_000, 60_000, 120_000]);
        for op in &mut both.ops[3..] {
            op.record.id.key = "other".parse().unwrap();
        }
        both.ops[3].over = Some("0.2@a".parse().unwrap());
        let sent = messages(vec![both], LIMITED);
        assert!(sent.messages.len() > 1);
        for parts in &sent.messages {
            assert!(serde_json::to_vec(parts).unwrap().len() < 200_000);
            for part in parts {
                let last = part.ops.last().map(|op| op.sequence);
                assert!(part.passed.last().copied() < last, "{part:?}");
            }
        }
        // A reader that does not know of passed sequences gets every op.
        let all = Form::default();
        let sent = messages(vec![chain(&[10; 8])], all);
        assert_eq!((sent.messages[0][0].ops.len(), sent.superseded), (8, 0));
    }

    #[test]
    fn passed_sequences_take_room_too() {
        let parts = (0..64).map(|bucket| {
            let mut part = part(&[10]);
            part.bucket = bucket;
            part.passed = (1_000..1_400).collect();
            part
        });
        let sent = messages(parts.collect(), LIMITED).messages;
        for parts in &sent {
            assert!(serde_json::to_vec(parts).unwrap().len() < 200_000);
        }
    }
}
