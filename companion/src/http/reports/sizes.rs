//! How many bytes the reports have that are kept, so that a client cannot fill the memory with invented ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use unitring_protocol::ids::ReporterId;
use unitring_protocol::report::Report;

use crate::door::credentials::Principal;
use crate::door::kept::{Kept, Share};
use crate::loads::{REMEMBERED_MS, alive_ms};

/// Most bytes of the last reports of all reporters, as long as they are remembered; half of it for one client.
pub(crate) const REPORTS_BYTES_MAX: usize = 256 << 20;
/// Most reports of one credential, one per reporter and service, so that reports of others find a place, too.
pub(super) const OF_ONE_MAX: usize = 3_072;

/// The sizes of the last reports.
pub(crate) struct Sizes {
    kept: Arc<Kept>,
    /// Reporters, counted once for each of their services.
    counted: Arc<Kept>,
    of: Mutex<BTreeMap<ReporterId, Size>>,
}

struct Size {
    by: Principal,
    share: Share,
    /// Until when it is remembered.
    until_ms: u64,
    count: Share,
    /// Until when it is alive.
    alive_until_ms: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            kept: Kept::new(REPORTS_BYTES_MAX),
            counted: Kept::with(usize::MAX, OF_ONE_MAX),
            of: Mutex::default(),
        }
    }
}

impl Sizes {
    /// Whether another client, which is alive, reports by this name.
    pub(in crate::http) fn is_anothers(
        &self,
        reporter: &ReporterId,
        by: &Principal,
        now_ms: u64,
    ) -> bool {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.get(reporter)
            .is_some_and(|size| size.by != *by && size.alive_until_ms > now_ms)
    }

    /// Whether a report of `bytes` bytes fits beside the others, in place of the reporter's last one. If so, it
    /// counts: its bytes as long as it is remembered, its reporter as long as that one is alive.
    pub(in crate::http) fn fits(
        &self,
        report: &Report,
        by: &Principal,
        bytes: usize,
        now_ms: u64,
    ) -> bool {
        let services = match by {
            Principal::Credential(_) => report.services.len(),
            // Without credentials, all reporters may be at one address: there only the quiet ones make room.
            Principal::Address(_) => 0,
        };
        let alive_until_ms = now_ms.saturating_add(alive_ms(report.interval_ms));
        let until_ms = alive_until_ms.saturating_add(REMEMBERED_MS);
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(size) = of.get_mut(&report.reporter).filter(|size| size.by == *by)
            && size.share.set(bytes)
            && size.count.set(services)
        {
            (size.until_ms, size.alive_until_ms) = (until_ms, alive_until_ms);
            return true;
        }
        of.retain(|reporter, size| {
            if size.alive_until_ms <= now_ms {
                // Fewer always fit.
                let _fits = size.count.set(0);
            }
            size.until_ms > now_ms && (*reporter != report.reporter || size.by != *by)
        });
        let mut share = self.kept.share(by.clone());
        let mut count = self.counted.share(by.clone());
        let fits = share.set(bytes) && count.set(services);
        // A name that another client has is refused later; the other client's report stays counted.
        if fits && !of.contains_key(&report.reporter) {
            let size = Size {
                by: by.clone(),
                share,
                until_ms,
                count,
                alive_until_ms,
            };
            of.insert(report.reporter.clone(), size);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loads::samples;

    fn of(reporter: &str, services: usize) -> Report {
        let mut report = samples::report((reporter, 1), "orders", vec![], vec![]);
        let one = report.services.pop().unwrap();
        report.services = vec![one; services];
        report
    }

    fn by(name: &str) -> Principal {
        Principal::Credential(name.to_owned())
    }

    #[test]
    fn the_reports_of_a_client_have_half_of_the_bytes_while_they_are_remembered() {
        let (sizes, half) = (Sizes::default(), REPORTS_BYTES_MAX / 2);
        let fits = |reporter: &str, name: &str, bytes, now_ms| {
            sizes.fits(&of(reporter, 1), &by(name), bytes, now_ms)
        };
        assert!(fits("e1", "a", half - 10, 1_000));
        assert!(!fits("e2", "a", 11, 2_000) && fits("e2", "a", 10, 2_000));
        assert!(fits("e3", "b", half, 2_000));
        // A new report of the same takes the place of the last.
        assert!(fits("e1", "a", 100, 3_000) && fits("e2", "a", half - 100, 3_000));
        assert!(!fits("e4", "c", 1, 3_000));
        let remembered_ms = alive_ms(of("e1", 1).interval_ms) + REMEMBERED_MS;
        assert!(!fits("e4", "c", 1, 2_999 + remembered_ms - 1_000));
        assert!(fits("e4", "c", 1, 3_000 + remembered_ms));
    }

    #[test]
    fn a_credential_leaves_places_for_the_reporters_of_others() {
        let sizes = Sizes::default();
        let fits = |number: usize, by: &Principal| {
            sizes.fits(&of(&format!("e{number}"), 256), by, 1, 1_000)
        };
        let taken = (0..16).filter(|number| fits(*number, &by("one"))).count();
        assert_eq!(taken, OF_ONE_MAX / 256);
        assert!(fits(0, &by("one")) && fits(16, &by("two")));
        // Silent reporters leave their room.
        let later = 1_000 + alive_ms(of("e1", 1).interval_ms);
        assert!(sizes.fits(&of("later", 256), &by("one"), 1, later));
        let anywhere = Principal::Address(std::net::IpAddr::from([10, 0, 0, 1]).into());
        assert!((20..40).all(|number| fits(number, &anywhere)));
    }
}
