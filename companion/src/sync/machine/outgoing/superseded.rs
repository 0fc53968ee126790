//! Ops that a later op of the same record makes needless, because the writer of the later one knew of them.
//!
//! Invariant: a reader that applies what is left, with the other sequences as passed, has the same records, position
//! and digest as one that applies all, and names the same conflicts, but for a change that lost twice.

use std::collections::BTreeSet;

use unitring_protocol::envelope::Part;

/// Leaves out superseded ops, and counts their sequences as passed. Returns how many.
///
/// An op supersedes an earlier one of its record if it replaced exactly that version: no change of another unit came
/// between them. It takes over what the earlier one replaced, as if it were the only change, so that a reader still
/// sees what neither of them knew of. Two ops stay although they could be left out: the first change of a record, since
/// what it replaced, nothing, may be a deletion elsewhere; and an op with a trace, whose way somebody wants to see.
pub(in super::super) fn skip(part: &mut Part) -> usize {
    let mut skipped = BTreeSet::new();
    for at in 1..part.ops.len() {
        let (before, rest) = part.ops.split_at_mut(at);
        let Some(op) = rest.first_mut() else {
            break;
        };
        let Some(over) = &op.over else {
            continue;
        };
        // The versions of a bucket's own changes only grow. Where they do not, less is skipped.
        let found = before.binary_search_by(|earlier| earlier.record.version.cmp(over));
        let Some(earlier) = found.ok().and_then(|at| before.get(at)) else {
            continue;
        };
        let is_same = earlier.record.id == op.record.id && earlier.sequence < op.sequence;
        if is_same && earlier.over.is_some() && earlier.trace.is_none() {
            op.over.clone_from(&earlier.over);
            skipped.insert(earlier.sequence);
        }
    }
    let count = skipped.len();
    if count > 0 {
        part.ops.retain(|op| !skipped.contains(&op.sequence));
        part.passed.append(&mut skipped);
    }
    count
}
