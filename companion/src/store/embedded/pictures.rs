//! The load of each service's fleet in memory: this process alone has the file, so it sees every
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
    /// Puts a report that is in the file. A picture that is not there yet will find it in there.
    pub(super) fn put(&self, service: &ServiceName, load: &StoredLoad) {
        if let Some(picture) = self.all().get_mut(service) {
            picture.put(load);
        }
    }

    /// Looks at the picture of a service; `read` is asked for all reports if there is none yet.
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
        // Read while nothing can be put: what comes meanwhile is put after.
        let mut picture = Picture::default();
        read()?.iter().for_each(|load| picture.put(load));
        let seen = look(&mut picture);
        pictures.insert(service.clone(), picture);
        Ok(seen)
    }

    /// Drops who is silent, and the pictures of services that nobody reports on.
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
