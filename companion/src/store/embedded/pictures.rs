//! The load of each service's fleet in memory: this process alone has the file, so it takes every
//! report itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use unitring_protocol::ids::ServiceName;

use crate::loads::StoredLoad;
use crate::loads::picture::Picture;
use crate::store::StoreError;

#[derive(Default)]
pub(super) struct Pictures(Mutex<BTreeMap<ServiceName, Picture>>);

impl Pictures {
    /// Adds a stored report. A picture that is not loaded yet will read it from the file.
    pub(super) fn put(&self, service: &ServiceName, load: &StoredLoad) {
        if let Some(picture) = self.all().get_mut(service) {
            picture.put(load);
        }
    }

    /// Passes the picture of a service to `look`; `read` loads all reports if there is none yet.
    pub(super) fn look<T>(
        &self,
        service: &ServiceName,
        read: impl FnOnce() -> Result<Vec<StoredLoad>, StoreError>,
        look: impl FnOnce(&mut Picture) -> T,
    ) -> Result<T, StoreError> {
        let mut pictures = self.all();
        if let Some(picture) = pictures.get_mut(service) {
            return Ok(look(picture));
        }
        // Read under the lock: reports that arrive meanwhile are added after.
        let mut picture = Picture::default();
        read()?.iter().for_each(|load| picture.put(load));
        let seen = look(&mut picture);
        pictures.insert(service.clone(), picture);
        Ok(seen)
    }

    /// Drops the picture of a service.
    pub(super) fn forget(&self, service: &ServiceName) {
        self.all().remove(service);
    }

    /// Drops silent reporters, and the pictures of services without reports.
    pub(super) fn expire(&self, now_ms: u64) {
        self.all().retain(|_, picture| {
            picture.lapse(now_ms);
            !picture.is_empty()
        });
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Picture>> {
        // A picture that a panic left halfway is no worse than one report of a second ago.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
