//! The settings that the file's companion had when it first opened it: one process at a time has the file, but the next
//! one may be configured otherwise, and would do the same harm as a second companion at one Redis.

use std::sync::{PoisonError, RwLock};

use redb::{Durability, ReadableTable as _};

use super::tables::TEXTS;
use super::{Embedded, away};
use crate::store::{Agreement, StoreError};

/// Where the file has the text.
const AGREED: &str = "agreed";

/// The settings of this process, and those in the file if they differ.
#[derive(Default)]
pub(super) struct Agreed {
    ours: RwLock<Option<Agreement>>,
    theirs: RwLock<Option<String>>,
}

impl Agreed {
    /// Refuses all work of a process whose settings differ.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let theirs = self.theirs.read().unwrap_or_else(PoisonError::into_inner);
        let ours = self.ours.read().unwrap_or_else(PoisonError::into_inner);
        match (&*ours, &*theirs) {
            (Some(ours), Some(theirs)) => Err(StoreError::Disagrees {
                ours: ours.0.clone(),
                theirs: theirs.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn differs(&self, theirs: Option<String>) {
        *self.theirs.write().unwrap_or_else(PoisonError::into_inner) = theirs;
    }
}

impl Embedded {
    /// The same store, for a companion that must agree with the one before it. The unit's name is part of it: Redis has
    /// it in its keys.
    ///
    /// # Errors
    /// [`StoreError::Away`] if the file cannot be read. Settings that differ are not an error here: all work is refused.
    pub fn agreeing(self, agreement: Agreement) -> Result<Self, StoreError> {
        let ours = Agreement(format!("unit {}, {}", self.rules.unit, agreement.0));
        let text = ours.0.clone();
        let theirs = self.write_now(Durability::Immediate, |transaction, _| {
            let mut texts = transaction.open_table(TEXTS).map_err(away)?;
            let theirs = texts.get(AGREED).map_err(away)?;
            let theirs = theirs.map(|theirs| theirs.value().to_owned());
            if theirs.is_none() {
                texts.insert(AGREED, text.as_str()).map_err(away)?;
            }
            Ok(theirs)
        })?;
        self.agreed
            .differs(theirs.filter(|theirs| !ours.joins(theirs)));
        let mut kept = self
            .agreed
            .ours
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *kept = Some(ours);
        drop(kept);
        Ok(self)
    }

    /// Makes the settings of this process those of the file.
    pub(super) fn agree_now(&self) -> Result<(), StoreError> {
        let ours = self
            .agreed
            .ours
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(ours) = ours.clone() else {
            return Ok(());
        };
        self.write_any(Durability::Immediate, |transaction, _| {
            let mut texts = transaction.open_table(TEXTS).map_err(away)?;
            texts.insert(AGREED, ours.0.as_str()).map_err(away)?;
            Ok(((), true))
        })?;
        self.agreed.differs(None);
        Ok(())
    }
}
