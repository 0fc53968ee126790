//! Which reporter makes room for a new one, in memory: reading every report for it would cost more than the report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use unitring_protocol::ids::{ReporterId, ServiceName};

use crate::store::StoreError;

/// A service and a reporter on it.
pub(super) type Standing = (String, String);

/// The standing of each reporter. One that is no longer in the file may still be here.
#[derive(Default)]
pub(super) struct Standings(Mutex<Option<Known>>);

#[derive(Default)]
struct Known {
    of: BTreeMap<Standing, u64>,
    in_order: BTreeSet<(u64, Standing)>,
}

impl Known {
    fn put(&mut self, reporter: Standing, standing: u64) {
        if let Some(last) = self.of.insert(reporter.clone(), standing) {
            self.in_order.remove(&(last, reporter.clone()));
        }
        self.in_order.insert((standing, reporter));
    }
}

impl Standings {
    /// A reporter has reported.
    pub(super) fn put(&self, service: &ServiceName, reporter: &ReporterId, standing: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_mut() {
            known.put((service.to_string(), reporter.to_string()), standing);
        }
    }

    /// Takes out the reporter of the lowest standing, if that is below `below`; `read` reads all of them the first
    /// time.
    pub(super) fn take_lowest(
        &self,
        below: u64,
        read: impl FnOnce() -> Result<Vec<(Standing, u64)>, StoreError>,
    ) -> Result<Option<Standing>, StoreError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            let mut all = Known::default();
            for (reporter, standing) in read()? {
                all.put(reporter, standing);
            }
            *known = Some(all);
        }
        let Some(known) = known.as_mut() else {
            return Ok(None);
        };
        let lowest = known.in_order.first();
        let Some((_, reporter)) = lowest.filter(|(standing, _)| *standing < below).cloned() else {
            return Ok(None);
        };
        known.in_order.pop_first();
        known.of.remove(&reporter);
        Ok(Some(reporter))
    }
}
