//! Damage to a simulated store.

use unitring_protocol::record::Version;

use super::store::Store;
use crate::replica::{Mark, Part};

impl Store {
    /// Loses the value of a record and keeps its mark, as a server that evicts does. Returns the version.
    pub(super) fn lose_value(&mut self, turn: usize) -> Option<Version> {
        let records = self
            .buckets
            .values_mut()
            .flat_map(|bucket| bucket.records.values_mut());
        let live = records.filter(|(mark, value)| value.is_some() && mark.expires_ms.is_none());
        let mut live: Vec<_> = live.collect();
        let turn = turn.checked_rem(live.len())?;
        let (mark, value) = live.get_mut(turn)?;
        *value = None;
        Some(mark.version.clone())
    }

    /// Forgets a record, and its part of the digest, without a trace.
    pub(super) fn damage(&mut self) {
        for bucket in self.buckets.values_mut() {
            let mut records = bucket.records.iter();
            let lasts = |mark: &Mark| mark.part() == Some(Part::Lasting);
            let live = records.find(|(_, (mark, _))| lasts(mark));
            if let Some(id) = live.map(|(id, _)| id.clone()) {
                return bucket.forget(&id);
            }
        }
    }
}
