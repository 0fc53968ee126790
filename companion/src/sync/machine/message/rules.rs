//! The rules that the store relies on, kept in every message that was read.

use unitring_protocol::envelope::{Body, Part};
use unitring_protocol::record::{Clock, Position, Record};

use super::aside::Asides;
use crate::replica::bounds::{EXACT_MAX, Fault, fault};
use crate::replica::digest::bucket_of;

/// Removes what breaks a rule, and sets it aside.
pub(super) fn keep(body: &mut Body, aside: &mut Asides) {
    // A sequence begins with 1. A position before that would hide the ops of earlier incarnations, and its unit would
    // not learn of it.
    let is_exact = |position: &Position| {
        (1..EXACT_MAX).contains(&position.sequence) && position.incarnation < EXACT_MAX
    };
    match body {
        Body::Ops { parts } => {
            parts.retain(|part| {
                let is_right = part.incarnation < EXACT_MAX;
                if !is_right {
                    aside.add(format_args!("bucket {}", part.bucket), Fault::Inexact);
                }
                is_right
            });
            for part in parts {
                keep_right(part, aside);
            }
        }
        Body::Repair(repair) => {
            let bucket = repair.bucket;
            repair
                .records
                .retain(|record| is_right(bucket, record, aside));
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
}

/// Whether a record may go to the store; otherwise it is set aside.
fn is_right(bucket: u8, record: &Record, aside: &mut Asides) -> bool {
    let other = (bucket_of(&record.id) != bucket).then_some(Fault::OtherBucket);
    match fault(record).or(other) {
        Some(fault) => {
            aside.add(&record.id, fault);
            false
        }
        None => true,
    }
}

/// Keeps the ops of a part that may go to the store; the sequences of the others count as passed.
fn keep_right(part: &mut Part, aside: &mut Asides) {
    let (bucket, passed) = (part.bucket, &mut part.passed);
    part.ops.retain(|op| {
        if op.sequence >= EXACT_MAX {
            aside.add(&op.record.id, Fault::Inexact);
            return false;
        }
        let keeps = is_right(bucket, &op.record, aside);
        if !keeps {
            passed.insert(op.sequence);
        }
        keeps
    });
    passed.retain(|sequence| *sequence < EXACT_MAX);
}
