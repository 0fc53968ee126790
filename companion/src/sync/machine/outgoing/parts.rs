//! Ops → messages within their broker's limit.

use std::collections::BTreeSet;

use unitring_protocol::envelope::Part;
use unitring_protocol::record::{Op, RecordId};

/// The op that passes this many bytes ends a message.
pub(crate) const MESSAGE_BYTES: usize = 1 << 20;
/// Most bytes of a message beside its ops: names of units, numbers of its parts.
const MESSAGE_HEAD_BYTES: usize = 16 << 10;
/// Estimated bytes of an op beside its value.
const OP_BYTES: usize = 192;

/// Estimated bytes of an op in a message; for a broker with a limit they are [`measured`].
fn op_bytes(op: &Op) -> usize {
    let value = op.record.value.as_ref().map_or(0, |value| value.0.len());
    OP_BYTES + value
}

/// The exact bytes of an op in a message.
fn measured(op: &Op) -> usize {
    serde_json::to_vec(op).map_or(usize::MAX, |json| json.len())
}

/// Leaves out ops that no message under this limit can hold, and counts their sequences as passed.
/// Returns their records with the sizes.
pub(super) fn leave_out(parts: &mut [Part], limit: usize) -> Vec<(RecordId, usize)> {
    let mut large = Vec::new();
    for part in parts {
        let passed = &mut part.passed;
        part.ops.retain(|op| {
            let bytes = measured(op).saturating_add(MESSAGE_HEAD_BYTES);
            if bytes > limit {
                passed.insert(op.sequence);
                large.push((op.record.id.clone(), bytes));
            }
            bytes <= limit
        });
    }
    large
}

/// Splits parts into messages of bounded size, in order; a part that is too large is cut.
pub(super) fn messages(parts: Vec<Part>, limit: usize) -> Vec<Vec<Part>> {
    let is_bound = limit != MESSAGE_BYTES;
    let limit =
        limit
            .min(MESSAGE_BYTES)
            .saturating_sub(if is_bound { MESSAGE_HEAD_BYTES } else { 0 });
    let size = |op: &Op| if is_bound { measured(op) } else { op_bytes(op) };
    let mut messages: Vec<Vec<Part>> = vec![Vec::new()];
    let mut bytes = 0;
    for part in parts {
        for part in cut(part, limit, size, is_bound) {
            let part_bytes: usize = part.ops.iter().map(size).sum();
            if bytes > 0 && bytes + part_bytes > limit {
                messages.push(Vec::new());
                bytes = 0;
            }
            bytes += part_bytes + 1;
            if let Some(last) = messages.last_mut() {
                last.push(part);
            }
        }
    }
    messages.retain(|parts| !parts.is_empty());
    messages
}

/// Cuts a part into pieces of this size. Only the first may say that ops before it are missing.
fn cut(part: Part, limit: usize, size: impl Fn(&Op) -> usize, is_bound: bool) -> Vec<Part> {
    if !is_bound || part.ops.iter().map(&size).sum::<usize>() <= limit {
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

    fn part(sizes: &[usize]) -> Part {
        let ops = (1..).zip(sizes).map(|(sequence, bytes)| Op {
            sequence,
            record: Record {
                id: RecordId {
                    dataset: "d".parse().unwrap(),
                    key: format!("k{sequence}").parse().unwrap(),
                },
                version: "1.0@a".parse().unwrap(),
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

    #[test]
    fn what_a_broker_does_not_take_is_passed_and_the_rest_fits_its_messages() {
        let limit = 200_000;
        let mut parts = [part(&[60_000, 900_000, 60_000, 60_000, 60_000])];
        let large = leave_out(&mut parts, limit);
        assert_eq!(large.len(), 1);
        assert_eq!(large[0].0.key.as_str(), "k2");
        assert_eq!(parts[0].passed, BTreeSet::from([2]));
        let sent = messages(parts.to_vec(), limit);
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
}
