//! This companion's picture of the load of each service's fleet. Other companions take reports,
//! too, so each request reads the changes; the rest need not be read again.
//!
//! Each report that is taken gets a number, which grows. Numbers start from the time, so that after
//! a loss of the data they are new, and larger. Pure: callers pass what they read as values.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use unitring_protocol::ids::{ReporterId, ServiceName};
use unitring_protocol::snapshot::ServiceSnapshot;

use crate::loads::StoredLoad;
use crate::loads::picture::Picture;
use crate::loads::wiring::Miswired;

#[derive(Default)]
pub(super) struct Pictures(Mutex<BTreeMap<ServiceName, Arc<Mutex<Known>>>>);

/// The picture of a service.
#[derive(Default)]
pub(super) struct Known {
    /// The number before the first, 0 before any is known, and the number up to which all is read.
    first: u64,
    last: u64,
    /// The numbers of the reports in the picture, except for those of an older companion.
    numbers: BTreeMap<ReporterId, u64>,
    picture: Picture,
}

impl Pictures {
    /// The picture of a service. A new one displaces those of services without reports.
    pub(super) fn of(&self, service: &ServiceName, now_ms: u64) -> Arc<Mutex<Known>> {
        let mut all = lock(&self.0);
        if let Some(known) = all.get(service) {
            return known.clone();
        }
        all.retain(|_, known| {
            let mut known = lock(known);
            known.lapse(now_ms);
            !known.picture.is_empty()
        });
        all.entry(service.clone()).or_default().clone()
    }
}

/// Takes the lock. After a panic of its holder, at worst a report is wrong until the next one
/// replaces it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// Adds a report that has this number or a later one. Its own sequence tells whether it is
    /// newer: numbers go back where an older copy of the data took over.
    pub(super) fn put(&mut self, load: &StoredLoad, number: u64) {
        self.picture.put(load);
        self.numbers.insert(load.reporter.clone(), number);
    }

    /// Which of these reports to read: those whose number is not the known one.
    pub(super) fn unknown(
        &self,
        mut changed: BTreeMap<ReporterId, u64>,
    ) -> BTreeMap<ReporterId, u64> {
        changed.retain(|reporter, number| self.numbers.get(reporter) != Some(number));
        changed
    }

    /// The numbers to read from: where they began, and up to where all is read.
    pub(super) fn read_from(&self) -> (u64, u64) {
        (self.first, self.last)
    }

    /// Notes that all reports up to `last` are read, if the numbers still begin at `first`. A read
    /// from before they started over is ignored.
    pub(super) fn read_through(&mut self, first: u64, last: u64) {
        if first == self.first {
            self.last = self.last.max(last);
        }
    }

    /// Replaces the picture by all stored reports, except for reports that came since.
    pub(super) fn replace(
        &mut self,
        (first, last): (u64, u64),
        numbers: &BTreeMap<ReporterId, u64>,
        loads: &[StoredLoad],
    ) {
        let (known, picture) = (&mut self.numbers, &mut self.picture);
        // If there are no numbers, no report can have come since.
        known.retain(|_, number| last > 0 && *number > last);
        picture.retain(|reporter| known.contains_key(reporter));
        for load in loads {
            match numbers.get(&load.reporter) {
                Some(number) => self.put(load, *number),
                None => self.picture.put(load),
            }
        }
        (self.first, self.last) = (first, last);
    }

    pub(super) fn rest(
        &mut self,
        service: &ServiceName,
        reporter: &ReporterId,
        now_ms: u64,
    ) -> ServiceSnapshot {
        self.lapse(now_ms);
        self.picture.rest(service, reporter, now_ms)
    }

    pub(super) fn miswired(&mut self, service: &ServiceName, now_ms: u64) -> Vec<Miswired> {
        self.lapse(now_ms);
        self.picture.miswired(service, now_ms)
    }

    fn lapse(&mut self, now_ms: u64) {
        self.picture.lapse(now_ms);
        if self.numbers.len() > self.picture.len() {
            let picture = &self.picture;
            self.numbers.retain(|reporter, _| picture.has(reporter));
        }
    }
}
