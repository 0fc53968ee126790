//! The load of a service's fleet as sums that are kept up to date, so that what the rest carries
//! for one reporter is looked up instead of added up again from every report; and which reporters are wired wrongly.
//!
//! Invariant: [`Picture::rest`] is [`super::rest`] over the reports that were put and are alive. A
//! reporter that is no longer alive is dropped at the next query; its next report brings it back.
//! Rows hold only the instances with load, and an instance that no row has any more gives its
//! column to another one, so the size is that of the reports.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use unitring_protocol::ids::{InstanceId, ReporterId, ServiceName};
use unitring_protocol::report::Finding;
use unitring_protocol::snapshot::{InstanceRest, ServiceSnapshot};

use super::StoredLoad;
use super::wiring::Miswired;

/// The last reports of the live reporters on one service.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    rows: BTreeMap<ReporterId, Row>,
    /// Where each instance with load has its column.
    places: BTreeMap<InstanceId, usize>,
    columns: Vec<Column>,
    /// Columns without an instance.
    free: Vec<usize>,
}

/// The parts of a report that the picture needs.
#[derive(Debug)]
struct Row {
    taken_ms: u64,
    sequence: u64,
    alive_until_ms: u64,
    /// Column and load as bounds count it; a column may come twice, as an instance may in a report.
    cells: Vec<(usize, u64)>,
    /// Column and data updates per 1,000 seconds.
    rates: Vec<(usize, u64)>,
    /// The findings of its filter in its wiring.
    findings: Vec<Finding>,
}

/// An instance over all rows.
#[derive(Debug)]
struct Column {
    id: InstanceId,
    /// Wider than its parts, so that taking one out again is exact.
    load: u128,
    /// Data updates per 1,000 seconds; as wide.
    updates: u128,
    /// How many cells and rates it has.
    cells: usize,
}

impl Picture {
    /// Puts a report in place of the reporter's last one, unless it is older.
    pub(crate) fn put(&mut self, load: &StoredLoad) {
        let last = self.rows.get(&load.reporter);
        // By when it was taken, since the store decides whether a lower sequence counts.
        let order = (load.taken_ms, load.sequence);
        if last.is_some_and(|last| order < (last.taken_ms, last.sequence)) {
            return;
        }
        // Before the old ones go, so that columns of both stay.
        let mut cells = Vec::with_capacity(load.instances.len());
        for instance in load.instances.iter().filter(|load| load.load() > 0) {
            let place = self.place(&instance.id);
            if let Some(column) = self.columns.get_mut(place) {
                column.load = column.load.saturating_add(instance.load().into());
                column.cells += 1;
            }
            cells.push((place, instance.load()));
        }
        let mut rates = Vec::with_capacity(load.update_rates.len());
        for (id, rate) in &load.update_rates {
            let (place, rate) = (self.place(id), rate.per_1000_seconds());
            if let Some(column) = self.columns.get_mut(place) {
                column.updates = column.updates.saturating_add(rate.into());
                column.cells += 1;
            }
            rates.push((place, rate));
        }
        let row = Row {
            taken_ms: load.taken_ms,
            sequence: load.sequence,
            alive_until_ms: load.alive_until_ms,
            cells,
            rates,
            findings: load.wiring().to_vec(),
        };
        if let Some(last) = self.rows.insert(load.reporter.clone(), row) {
            self.subtract(&last);
        }
    }

    /// Drops the reporters that no longer count.
    pub(crate) fn lapse(&mut self, now_ms: u64) {
        self.drop_if(|_, row| row.alive_until_ms <= now_ms);
    }

    /// Drops all reporters but these.
    pub(crate) fn retain(&mut self, stays: impl Fn(&ReporterId) -> bool) {
        self.drop_if(|reporter, _| !stays(reporter));
    }

    fn drop_if(&mut self, goes: impl Fn(&ReporterId, &Row) -> bool) {
        let going = self
            .rows
            .iter()
            .filter(|(reporter, row)| goes(reporter, row));
        let going: Vec<ReporterId> = going.map(|(reporter, _)| reporter.clone()).collect();
        for reporter in &going {
            if let Some(row) = self.rows.remove(reporter) {
                self.subtract(&row);
            }
        }
    }

    /// Whether a reporter counts.
    pub(crate) fn has(&self, reporter: &ReporterId) -> bool {
        self.rows.contains_key(reporter)
    }

    /// How many reporters there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The load of the rest of the fleet, without this reporter, and the reporter's place among
    /// the others: [`super::rest`] over the live reporters.
    pub(crate) fn rest(
        &mut self,
        service: &ServiceName,
        without: &ReporterId,
        now_ms: u64,
    ) -> ServiceSnapshot {
        self.lapse(now_ms);
        let mut before = vec![0_u64; self.columns.len()];
        let mut rank = 0;
        for (_, row) in self
            .rows
            .range::<ReporterId, _>((Unbounded, Excluded(without)))
        {
            rank += 1;
            for &(place, load) in &row.cells {
                if let Some(sum) = before.get_mut(place) {
                    *sum = sum.saturating_add(load);
                }
            }
        }
        let mut own = vec![0_u128; self.columns.len()];
        let me = self.rows.get(without);
        for &(place, load) in me.iter().flat_map(|row| &row.cells) {
            if let Some(sum) = own.get_mut(place) {
                *sum = sum.saturating_add(load.into());
            }
        }
        let narrow = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
        let rest = self.places.iter().filter_map(|(id, &place)| {
            let own = *own.get(place)?;
            let column = self.columns.get(place)?;
            let others = column.load.saturating_sub(own);
            let is_there = others > 0 || own > 0 || column.updates > 0;
            is_there.then(|| InstanceRest {
                id: id.clone(),
                in_flight: narrow(others),
                before: before.get(place).copied().unwrap_or(0),
                own: narrow(own),
                updates_per_1000_s: narrow(column.updates),
            })
        });
        let rest = rest.collect();
        let others = self.rows.len().saturating_sub(usize::from(me.is_some()));
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        ServiceSnapshot {
            service: service.clone(),
            reporters: count(others),
            rank: Some(count(rank)),
            rest,
        }
    }

    /// The live reporters that are wired wrongly.
    pub(crate) fn miswired(&mut self, service: &ServiceName, now_ms: u64) -> Vec<Miswired> {
        self.lapse(now_ms);
        let rows = self.rows.iter().filter(|(_, row)| !row.findings.is_empty());
        let miswired = rows.map(|(reporter, row)| Miswired {
            service: service.clone(),
            reporter: reporter.clone(),
            findings: row.findings.clone(),
        });
        miswired.collect()
    }

    /// The column of an instance, a new one if it has none.
    fn place(&mut self, id: &InstanceId) -> usize {
        if let Some(&place) = self.places.get(id) {
            return place;
        }
        let column = Column {
            id: id.clone(),
            load: 0,
            updates: 0,
            cells: 0,
        };
        let place = self.free.pop().unwrap_or(self.columns.len());
        match self.columns.get_mut(place) {
            Some(free) => *free = column,
            None => self.columns.push(column),
        }
        self.places.insert(id.clone(), place);
        place
    }

    /// Takes a row out of the sums again.
    fn subtract(&mut self, row: &Row) {
        let loads = row.cells.iter().map(|(place, load)| (*place, *load, 0));
        let rates = row.rates.iter().map(|(place, rate)| (*place, 0, *rate));
        for (place, load, rate) in loads.chain(rates) {
            let Some(column) = self.columns.get_mut(place) else {
                continue;
            };
            column.load = column.load.saturating_sub(load.into());
            column.updates = column.updates.saturating_sub(rate.into());
            column.cells = column.cells.saturating_sub(1);
            if column.cells == 0 {
                self.places.remove(&column.id);
                self.free.push(place);
            }
        }
    }
}

#[cfg(test)]
mod tests;
