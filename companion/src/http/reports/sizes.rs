//! How many bytes the reports have that are kept, so that a client cannot fill the memory with invented ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use unitring_protocol::ids::ReporterId;

use crate::door::credentials::Principal;
use crate::door::kept::{Kept, Share};

/// Most bytes of the last reports of all reporters; half of it for one client.
pub const REPORTS_BYTES_MAX: usize = 128 << 20;
/// A report that was not renewed for so long counts no more. The longest interval of a filter is shorter.
const COUNTED_MS: u64 = 1_200_000;

/// The sizes of the last reports.
pub struct Sizes {
    kept: Arc<Kept>,
    of: Mutex<BTreeMap<ReporterId, Size>>,
}

struct Size {
    by: Principal,
    share: Share,
    until_ms: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            kept: Kept::new(REPORTS_BYTES_MAX),
            of: Mutex::default(),
        }
    }
}

impl Sizes {
    /// Whether a report fits beside the others, in place of the reporter's last one. If so, it counts.
    pub(in crate::http) fn fits(
        &self,
        reporter: &ReporterId,
        by: &Principal,
        bytes: usize,
        now_ms: u64,
    ) -> bool {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let until_ms = now_ms.saturating_add(COUNTED_MS);
        if let Some(size) = of.get_mut(reporter).filter(|size| size.by == *by)
            && size.share.set(bytes)
        {
            size.until_ms = until_ms;
            return true;
        }
        of.retain(|_, size| size.until_ms > now_ms);
        let mut share = self.kept.share(by.clone());
        // A name that another client has is refused later; what it has stays counted.
        let fits = share.set(bytes);
        if fits && !of.contains_key(reporter) {
            let by = by.clone();
            let size = Size {
                by,
                share,
                until_ms,
            };
            of.insert(reporter.clone(), size);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reports_of_a_client_have_half_of_the_bytes_until_they_are_silent() {
        let (sizes, half) = (Sizes::default(), REPORTS_BYTES_MAX / 2);
        let by = |name: &str| Principal::Credential(name.to_owned());
        let fits = |reporter: &str, of: &str, bytes, now_ms| {
            sizes.fits(&reporter.parse().unwrap(), &by(of), bytes, now_ms)
        };
        assert!(fits("e1", "a", half - 10, 1_000));
        assert!(!fits("e2", "a", 11, 2_000) && fits("e2", "a", 10, 2_000));
        assert!(fits("e3", "b", half, 2_000));
        // A new report of the same takes the place of the last.
        assert!(fits("e1", "a", 100, 3_000) && fits("e2", "a", half - 100, 3_000));
        assert!(!fits("e4", "c", 1, 3_000));
        assert!(fits("e4", "c", 1, 3_000 + COUNTED_MS));
    }
}
