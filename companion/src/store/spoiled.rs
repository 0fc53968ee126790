//! Rows and keys of a store that no unitring wrote: each is left out alone where it is met, and named.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Most names that are kept; the first ones stay.
pub(crate) const SPOILED_MAX: usize = 64;
/// Characters of a name that are kept.
const NAME_CHARS_MAX: usize = 256;

/// The corrupt rows that were met since the process started, or since all records were recounted.
#[derive(Debug, Default)]
pub(crate) struct Spoiled(Mutex<BTreeMap<String, String>>);

impl Spoiled {
    /// Adds a row, and logs it if it is new.
    pub(crate) fn note(&self, name: &str, why: &dyn std::fmt::Display) {
        if let Some(name) = self.add(name, why) {
            tracing::error!(%name, %why, "corrupt row left out: write the record again");
        }
    }

    /// Adds a key; `why` says the way out.
    pub(crate) fn note_key(&self, key: &str, why: &dyn std::fmt::Display) {
        if let Some(key) = self.add(key, why) {
            tracing::error!(%key, %why, "a key of the store is not unitring's: what needs it is left out");
        }
    }

    /// The name as it is kept, if it is new.
    fn add(&self, name: &str, why: &dyn std::fmt::Display) -> Option<String> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name: String = name.chars().take(NAME_CHARS_MAX).collect();
        if names.contains_key(&name) || names.len() >= SPOILED_MAX {
            return None;
        }
        names.insert(name.clone(), why.to_string());
        Some(name)
    }

    /// The value; if it could not be read, the row is added and there is none.
    pub(crate) fn keep<T, E: std::fmt::Display>(
        &self,
        name: &str,
        read: Result<T, E>,
    ) -> Option<T> {
        read.inspect_err(|why| self.note(name, why)).ok()
    }

    /// Forgets all rows.
    pub(crate) fn forget(&self) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.clear();
    }

    /// The reasons by name.
    pub(crate) fn names(&self) -> BTreeMap<String, String> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.clone()
    }
}
