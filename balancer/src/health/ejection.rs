//! Gateway failures in a row → which instances are ejected, for how long, and on trial afterwards.
//!
//! An instance that is back from an ejection is on trial for as long as it was ejected. One failure
//! ejects it again for twice as long; without a failure its past is forgotten.

use unitring_routing::membership::Member;
use unitring_routing::names::Names;

use crate::settings::Ejection;
use crate::stored::stored;

/// The instances that are ejected or on trial, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ejections {
    records: Vec<Record>,
}

stored!(Ejections { records });

#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    id: String,
    /// Ejections in a row without a passed trial in between.
    strikes: u32,
    /// When the ejection or the trial ends, in milliseconds since the Unix epoch.
    until_ms: u64,
    on_trial: bool,
}

stored!(Record {
    id,
    strikes,
    until_ms,
    on_trial
});

/// The result of a look.
pub(super) struct Look {
    /// For each instance that was found, whether it is ejected.
    pub(super) is_out: Vec<bool>,
    /// Ids whose failures in a row are reset to 0.
    pub(super) forgiven: Vec<String>,
}

impl Ejections {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(super) fn look(
        &mut self,
        settings: &Ejection,
        found: &[Member],
        failures_in_row: impl Fn(&str) -> u64,
        now_ms: u64,
    ) -> Look {
        let ids = Names::of(found.iter().map(|member| member.id.as_str()));
        let mut forgiven = Vec::new();
        self.records.retain_mut(|record| {
            if !ids.has(&record.id) {
                return false;
            }
            // If the clock was set back, the phase must not last longer by that much.
            record.until_ms = record.until_ms.min(now_ms + record.length_ms(settings));
            if now_ms < record.until_ms {
                return true;
            }
            if record.on_trial {
                return false;
            }
            record.on_trial = true;
            record.until_ms = now_ms + record.length_ms(settings);
            // Requests that were in flight at the ejection may have failed since.
            forgiven.push(record.id.clone());
            true
        });
        // The index of the record of each instance that was found.
        let known = Names::of(self.records.iter().map(|record| record.id.as_str()));
        let places = found.iter().map(|member| known.last(&member.id));
        let places: Vec<Option<usize>> = places.collect();
        for (member, place) in found.iter().zip(&places) {
            let record = place.and_then(|place| self.records.get(place));
            let limit = match record {
                None => u64::from(settings.consecutive_failures.get()),
                Some(record) if record.on_trial => 1,
                Some(_) => continue,
            };
            let is_new_on_trial = forgiven.contains(&member.id);
            if is_new_on_trial || failures_in_row(&member.id) < limit {
                continue;
            }
            if !self.has_room(settings, found.len()) {
                continue;
            }
            let strikes = record.map_or(0, |record| record.strikes).saturating_add(1);
            let mut ejected = Record {
                id: member.id.clone(),
                strikes,
                until_ms: 0,
                on_trial: false,
            };
            ejected.until_ms = now_ms + ejected.length_ms(settings);
            forgiven.push(member.id.clone());
            match place.and_then(|place| self.records.get_mut(place)) {
                Some(record) => *record = ejected,
                None => self.records.push(ejected),
            }
        }
        let out = self.records.iter().filter(|record| !record.on_trial);
        let out = Names::of(out.map(|record| record.id.as_str()));
        Look {
            is_out: found.iter().map(|member| out.has(&member.id)).collect(),
            forgiven,
        }
    }

    /// Whether one more may be ejected. The first always may, unless `max_percent` is 0.
    fn has_room(&self, settings: &Ejection, members: usize) -> bool {
        let records = self.records.iter();
        let out = records.filter(|record| !record.on_trial).count();
        let percent = usize::try_from(settings.max_percent).unwrap_or(100);
        percent > 0 && (out == 0 || (out + 1) * 100 <= members * percent)
    }
}

impl Record {
    /// The base, doubled with each strike after the first, up to the maximum.
    fn length_ms(&self, settings: &Ejection) -> u64 {
        let ms = |duration: std::time::Duration| {
            u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
        };
        let doublings = self.strikes.saturating_sub(1).min(63);
        ms(settings.base)
            .saturating_mul(1 << doublings)
            .min(ms(settings.max))
    }
}
