//! The metadata that a store keeps beside a value: when and where the record was changed, and
//! whether it is deleted or expires.

use std::fmt;
use std::str::FromStr;

use unitring_protocol::digest::EPOCH_MS;
use unitring_protocol::record::{Record, RecordId, Value, Version};

/// Why a stored text is not in this program's format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?}")]
pub struct InvalidMark {
    what: &'static str,
    /// Its first characters.
    text: String,
}

impl InvalidMark {
    pub(super) fn new(what: &'static str, text: &str) -> Self {
        Self {
            what,
            text: text.chars().take(128).collect(),
        }
    }
}

/// A record that expires within this time may be gone by the clock of its store, which is not quite ours.
pub(crate) const LOST_MS: u64 = 60_000;

/// The metadata of a value: `<ms>.<counter>@<unit>`, with `!` behind it for a tombstone or `~<ms
/// since the epoch>` for a record that expires then. No unit's name contains either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// When and where the record was changed.
    pub version: Version,
    /// Whether that change deleted it.
    pub is_deleted: bool,
    /// When it expires.
    pub expires_ms: Option<u64>,
}

impl Mark {
    pub fn of(record: &Record) -> Self {
        Self {
            version: record.version.clone(),
            is_deleted: record.is_deleted(),
            expires_ms: record.expires_ms,
        }
    }

    /// Whether the record is live at this time.
    pub fn is_live(&self, now_ms: u64) -> bool {
        !self.is_deleted && self.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms)
    }

    /// When the record is gone: the later of now and its expiry; `None` if it is neither deleted
    /// nor expires.
    pub fn gone_ms(&self, now_ms: u64) -> Option<u64> {
        let is_mortal = self.is_deleted || self.expires_ms.is_some();
        is_mortal.then(|| self.expires_ms.unwrap_or(now_ms).max(now_ms))
    }

    /// The digest of its bucket that the record is in: that of an epoch if it expires, none if it
    /// is deleted.
    pub fn part(&self) -> Option<Part> {
        match self.expires_ms {
            _ if self.is_deleted => None,
            None => Some(Part::Lasting),
            Some(expires_ms) => Some(Part::Epoch(epoch(expires_ms))),
        }
    }

    /// Whether the record has lost its value: it is live for a while yet, and has none. A server that evicts does
    /// that, and so does a clock of the future, by which the record had expired.
    pub fn has_lost(&self, has_value: bool, now_ms: u64) -> bool {
        let is_due = |expires_ms| expires_ms <= now_ms.saturating_add(LOST_MS);
        !has_value && !self.is_deleted && !self.expires_ms.is_some_and(is_due)
    }

    /// The record with its value, if it has one. `None` for a live record without expiry that has
    /// no value: another client removed the value, and a repair restores it.
    pub fn record(self, id: RecordId, value: Option<Vec<u8>>) -> Option<Record> {
        let value = value.filter(|_| !self.is_deleted);
        if value.is_none() && !self.is_deleted && self.expires_ms.is_none() {
            return None;
        }
        Some(Record {
            id,
            version: self.version,
            value: value.map(Value),
            expires_ms: self.expires_ms,
        })
    }
}

/// One of the digests that a bucket keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The digest of records that do not expire.
    Lasting,
    /// The digest of records that expire in this epoch.
    Epoch(u64),
}

/// The epoch of a moment in ms since the Unix epoch.
pub(crate) fn epoch(ms: u64) -> u64 {
    ms / EPOCH_MS
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version.fmt(f)?;
        if self.is_deleted {
            f.write_str("!")?;
        }
        match self.expires_ms {
            Some(expires_ms) => write!(f, "~{expires_ms}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Mark {
    type Err = InvalidMark;

    fn from_str(text: &str) -> Result<Self, InvalidMark> {
        let corrupt = || InvalidMark::new("version", text);
        let (rest, expires_ms) = match text.split_once('~') {
            Some((rest, expires)) => (rest, Some(expires.parse().map_err(|_| corrupt())?)),
            None => (text, None),
        };
        let version = rest.strip_suffix('!');
        Ok(Self {
            version: version.unwrap_or(rest).parse().map_err(|_| corrupt())?,
            is_deleted: version.is_some(),
            expires_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_about_to_expire_has_lost_nothing() {
        let lost = |mark: &str| mark.parse::<Mark>().unwrap().has_lost(false, 1_000);
        assert!(lost("17.3@east") && lost("17.3@east~61001"));
        assert!(!lost("17.3@east!") && !lost("17.3@east~61000"));
        assert!(!"17.3@east".parse::<Mark>().unwrap().has_lost(true, 1_000));
    }

    #[test]
    fn a_mark_reads_back_as_written() {
        for text in ["17.3@east", "17.3@east!", "17.3@east~99"] {
            assert_eq!(text.parse::<Mark>().unwrap().to_string(), text);
        }
        for text in ["nonsense", "17.3@east~", "17.3@east~x"] {
            assert!(text.parse::<Mark>().is_err(), "{text}");
        }
    }
}
