//! Whether a unit takes another write, by its place in the group and what waits in its outbox. Pure.

use crate::store::{Backlog, StoreError};

/// How many times its bound an outbox may reach before writes are refused. The leader shortens it
/// long before.
const OUTBOX_OVER: u64 = 2;

/// Whether another write is admitted while this much waits in an outbox with these bounds.
///
/// # Errors [`StoreError::Removed`] if the unit left its group; [`StoreError::OutboxFull`] or
/// [`StoreError::OutboxBytesFull`] if the outbox is far over its bound.
pub(super) fn admit(is_removed: bool, waiting: Backlog, max: Backlog) -> Result<(), StoreError> {
    if is_removed {
        return Err(StoreError::Removed);
    }
    let (ops, bytes) = (waiting.ops, waiting.bytes);
    let max_ops = max.ops.saturating_mul(OUTBOX_OVER);
    if ops >= max_ops {
        return Err(StoreError::OutboxFull {
            waiting: ops,
            max: max_ops,
        });
    }
    let max_bytes = max.bytes.saturating_mul(OUTBOX_OVER);
    if bytes >= max_bytes {
        return Err(StoreError::OutboxBytesFull {
            bytes,
            max: max_bytes,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_admitted_until_ops_or_bytes_are_twice_the_bound() {
        let max = Backlog {
            ops: 100,
            bytes: 1_000,
        };
        let waits = |ops, bytes| admit(false, Backlog { ops, bytes }, max);
        assert!(waits(199, 1_999).is_ok());
        let full = waits(200, 0).unwrap_err();
        assert!(matches!(
            full,
            StoreError::OutboxFull {
                waiting: 200,
                max: 200
            }
        ));
        let full = waits(0, 2_000).unwrap_err();
        assert!(matches!(
            full,
            StoreError::OutboxBytesFull {
                bytes: 2_000,
                max: 2_000
            }
        ));
    }

    #[test]
    fn a_unit_that_left_its_group_takes_no_write_though_nothing_waits() {
        let max = Backlog {
            ops: u64::MAX,
            bytes: u64::MAX,
        };
        assert!(admit(false, Backlog::default(), max).is_ok());
        let refused = admit(true, Backlog::default(), max).unwrap_err();
        assert!(matches!(refused, StoreError::Removed));
    }
}
