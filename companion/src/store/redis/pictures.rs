//! What this companion knows of the load of each service's fleet. Others take reports too, so what
//! changed is asked for each time; this is what need not be read again.
//!
//! Each report that is taken gets a number, which grows. They start from the time, so that after a
//! loss of the data they are others, and larger. Pure: what was read comes in as values.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use unitring_protocol::ids::{ReporterId, ServiceName};
use unitring_protocol::snapshot::ServiceSnapshot;

use crate::loads::StoredLoad;
use crate::loads::picture::Picture;
use crate::loads::wiring::Miswired;

/// That of every service.
#[derive(Default)]
pub(super) struct Pictures(Mutex<BTreeMap<ServiceName, Arc<Mutex<Known>>>>);

/// What is known of a service.
#[derive(Default)]
pub(super) struct Known {
    /// Where the numbers began, 0 before any is known, and up to where all is read.
    first: u64,
    last: u64,
    /// Of the reports in the picture, but for those of an older companion.
    numbers: BTreeMap<ReporterId, u64>,
    picture: Picture,
}

impl Pictures {
    /// What is known of a service. A new one takes the place of those that nobody reports on.
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

/// The lock; a panic of another holder left at worst a report that the next one replaces.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// Puts a report that has this number or a later one. Whether it is newer its own sequence tells:
    /// numbers go back where an older copy of the data took over.
    pub(super) fn put(&mut self, load: &StoredLoad, number: u64) {
        self.picture.put(load);
        self.numbers.insert(load.reporter.clone(), number);
    }

    /// Which of these must be read: where another one is known, perhaps again.
    pub(super) fn unknown(
        &self,
        mut changed: BTreeMap<ReporterId, u64>,
    ) -> BTreeMap<ReporterId, u64> {
        changed.retain(|reporter, number| self.numbers.get(reporter) != Some(number));
        changed
    }

    /// From where to ask: where the numbers began, and up to where all is read.
    pub(super) fn read_from(&self) -> (u64, u64) {
        (self.first, self.last)
    }

    /// Everything up to here is read, of the numbers that began there. One who asked before others
    /// began says nothing.
    pub(super) fn read_through(&mut self, first: u64, last: u64) {
        if first == self.first {
            self.last = self.last.max(last);
        }
    }

    /// Puts all that there is in place of what was known, but for what came since.
    pub(super) fn replace(
        &mut self,
        (first, last): (u64, u64),
        numbers: &BTreeMap<ReporterId, u64>,
        loads: &[StoredLoad],
    ) {
        let (known, picture) = (&mut self.numbers, &mut self.picture);
        // Without numbers there is nothing that could have come since.
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
