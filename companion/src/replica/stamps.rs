//! The data updates of a record that were applied: one stamp for each source, the greatest that it sent. By them an
//! update applies once however often it arrives, and never after a later one of its source.
//!
//! Stamps are beside the record, not in it: they outlast its deletion and every other write, so that an update that
//! is sent again does not undo what came after it. Between sources nothing is decided here: their updates apply in
//! the order in which they arrive. Redis' write.lua does the same in Lua.

use std::fmt;

use sha1::{Digest as _, Sha1};

use super::digest::first_64_bits;

/// Most sources remembered for a record; then the one whose last update is oldest is forgotten. More Envoys than
/// that do not change one record within the time in which an update is sent again.
pub(crate) const SOURCES_MAX: usize = 16;
/// How long the stamps of a record are kept after its last update, in ms: longer than any filter keeps an update that
/// it could not deliver.
pub(crate) const STAMPS_KEPT_MS: u64 = 3_600_000;

/// A sender of updates whose sequences are comparable: an Envoy process, as one client names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(u64);

impl Source {
    /// The source that this client calls so. The client is part of it, so that no client overtakes the updates of
    /// another client's Envoy by using its name.
    pub fn of(client: &str, name: &str) -> Self {
        let hash = Sha1::new()
            .chain_update(client.as_bytes())
            .chain_update(b"\0")
            .chain_update(name.as_bytes());
        Self(first_64_bits(hash))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// An update's place among those of its source. Written `<source>.<sequence>.<vm>`, source and VM as 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The sender.
    pub source: Source,
    /// Below 2^53, since Redis' Lua compares it as a double.
    pub sequence: u64,
    /// Decides between equal sequences.
    pub vm: u64,
}

impl Stamp {
    /// Whether this update came before the other one, or is the same; both are of one source.
    fn is_not_after(&self, other: &Self) -> bool {
        (self.sequence, self.vm) <= (other.sequence, other.vm)
    }

    /// `None` if no unitring wrote it.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (source, sequence, vm) = (parts.next()?, parts.next()?, parts.next()?);
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let stamp = Self {
            source: Source(hex(source)?),
            sequence: sequence.parse().ok()?,
            vm: hex(vm)?,
        };
        parts.next().is_none().then_some(stamp)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source,
            sequence,
            vm,
        } = self;
        write!(f, "{source}.{sequence}.{vm:016x}")
    }
}

/// The stamps of a record, in the order in which they were applied. Written `<forget_ms> <stamp> <stamp> …`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stamps {
    forget_ms: u64,
    applied: Vec<Stamp>,
}

impl Stamps {
    /// Reads the stamps of a store; text that no unitring wrote is left out.
    pub(crate) fn read(text: &str) -> Self {
        let mut parts = text.split(' ');
        let forget_ms = parts.next().and_then(|text| text.parse().ok());
        Self {
            forget_ms: forget_ms.unwrap_or_default(),
            applied: parts.filter_map(Stamp::read).collect(),
        }
    }

    /// When they are forgotten, in ms since the Unix epoch.
    pub(crate) fn forget_ms(&self) -> u64 {
        self.forget_ms
    }

    /// Whether the update is to be applied: neither it nor a later one of its source was.
    pub(crate) fn admits(&self, stamp: &Stamp, now_ms: u64) -> bool {
        let mut applied = self.kept(now_ms).iter();
        !applied.any(|there| there.source == stamp.source && stamp.is_not_after(there))
    }

    /// The stamps after this update was applied.
    #[must_use]
    pub(crate) fn with(&self, stamp: Stamp, now_ms: u64) -> Self {
        let others = self.kept(now_ms).iter();
        let others: Vec<Stamp> = others
            .filter(|there| there.source != stamp.source)
            .copied()
            .collect();
        let over = (others.len() + 1).saturating_sub(SOURCES_MAX);
        Self {
            forget_ms: now_ms.saturating_add(STAMPS_KEPT_MS),
            applied: others.into_iter().skip(over).chain([stamp]).collect(),
        }
    }

    fn kept(&self, now_ms: u64) -> &[Stamp] {
        match self.forget_ms > now_ms {
            true => &self.applied,
            false => &[],
        }
    }
}

impl fmt::Display for Stamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.forget_ms.fmt(f)?;
        self.applied
            .iter()
            .try_for_each(|stamp| write!(f, " {stamp}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp(source: u64, sequence: u64, vm: u64) -> Stamp {
        Stamp {
            source: Source(source),
            sequence,
            vm,
        }
    }

    #[test]
    fn a_source_is_another_ones_with_another_client() {
        let own = Source::of("token edge", "envoy~1");
        assert_eq!(own, Source::of("token edge", "envoy~1"));
        assert_ne!(own, Source::of("token other", "envoy~1"));
        assert_ne!(own, Source::of("token edgee", "nvoy~1"));
        // printf 'token edge\0envoy~1' | sha1sum
        assert_eq!(own.to_string(), "35b4e53577bb3ef5");
    }

    #[test]
    fn an_update_applies_once_and_never_after_a_later_one_of_its_source() {
        let stamps = Stamps::default().with(stamp(1, 5, 7), 0);
        for (other, is_admitted) in [
            (stamp(1, 5, 7), false),
            (stamp(1, 4, 9), false),
            (stamp(1, 5, 6), false),
            (stamp(1, 5, 8), true),
            (stamp(1, 6, 0), true),
            (stamp(2, 1, 0), true),
        ] {
            assert_eq!(stamps.admits(&other, 1), is_admitted, "{other}");
        }
    }

    #[test]
    fn stamps_are_forgotten_an_hour_after_the_last() {
        let stamps = Stamps::default().with(stamp(1, 5, 7), 1_000);
        let end_ms = 1_000 + STAMPS_KEPT_MS;
        assert!(!stamps.admits(&stamp(1, 5, 7), end_ms - 1));
        assert!(stamps.admits(&stamp(1, 5, 7), end_ms));
        let later = stamps.with(stamp(2, 1, 0), end_ms - 1);
        assert!(!later.admits(&stamp(1, 5, 7), end_ms + 1));
        let anew = stamps.with(stamp(2, 1, 0), end_ms);
        assert!(anew.admits(&stamp(1, 5, 7), end_ms));
    }

    #[test]
    fn the_source_whose_last_update_is_oldest_is_forgotten() {
        let all = (0..16).fold(Stamps::default(), |stamps, source| {
            stamps.with(stamp(source, 1, 0), 0)
        });
        let stamps = all.with(stamp(0, 2, 0), 0).with(stamp(16, 1, 0), 0);
        let is_known = |source| !stamps.admits(&stamp(source, 1, 0), 0);
        let known: Vec<u64> = (0..18).filter(|source| is_known(*source)).collect();
        assert_eq!(known, [vec![0], (2..17).collect()].concat());
    }

    fn any_stamp() -> impl Strategy<Value = Stamp> {
        (0..20_u64, 0..1_u64 << 53, any::<u64>())
            .prop_map(|(source, sequence, vm)| stamp(source, sequence, vm))
    }

    proptest! {
        #[test]
        fn stamps_read_back_as_written(all in prop::collection::vec(any_stamp(), 0..40), now_ms in 0..1_u64 << 53) {
            let stamps = all.iter().fold(Stamps::default(), |stamps, stamp| stamps.with(*stamp, now_ms));
            prop_assert_eq!(&Stamps::read(&stamps.to_string()), &stamps);
            prop_assert!(stamps.applied.len() <= SOURCES_MAX);
            let mut sources: Vec<u64> = stamps.applied.iter().map(|stamp| stamp.source.0).collect();
            sources.sort_unstable();
            sources.dedup();
            prop_assert_eq!(sources.len(), stamps.applied.len());
        }

        #[test]
        fn in_whatever_order_and_however_often_the_last_of_a_source_wins(
            arrivals in prop::collection::vec((0..5_u64, 0..3_u64), 1..60),
        ) {
            let (mut stamps, mut last) = (Stamps::default(), None);
            for (sequence, vm) in &arrivals {
                let stamp = stamp(1, *sequence, *vm);
                if stamps.admits(&stamp, 0) {
                    stamps = stamps.with(stamp, 0);
                    last = Some((*sequence, *vm));
                }
            }
            prop_assert_eq!(last, arrivals.iter().max().copied());
        }

        #[test]
        fn reading_never_panics(text in ".*") {
            let _ = Stamps::read(&text).admits(&stamp(1, 1, 1), 0);
        }
    }
}
