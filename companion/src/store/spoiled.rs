//! What a store holds that no unitring wrote: it is left out where it is met, alone, and named.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Names that are kept; the first ones stay.
pub const SPOILED_MAX: usize = 64;
/// Characters of a name that are kept.
const NAME_CHARS_MAX: usize = 256;

/// What was met since the process started.
#[derive(Debug, Default)]
pub struct Spoiled(Mutex<BTreeMap<String, String>>);

impl Spoiled {
    /// Notes something, and logs it if it is new.
    pub fn note(&self, name: &str, why: &dyn std::fmt::Display) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name: String = name.chars().take(NAME_CHARS_MAX).collect();
        if names.contains_key(&name) || names.len() >= SPOILED_MAX {
            return;
        }
        tracing::error!(%name, %why, "left out: the store holds what no unitring wrote; write it again");
        names.insert(name, why.to_string());
    }

    /// The value, or a note of why there is none.
    pub fn keep<T, E: std::fmt::Display>(&self, name: &str, read: Result<T, E>) -> Option<T> {
        read.inspect_err(|why| self.note(name, why)).ok()
    }

    /// By name: why it was left out.
    pub fn names(&self) -> BTreeMap<String, String> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.clone()
    }
}
