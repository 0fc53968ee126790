//! The files that settings name → whether each can be used, before anything starts.

use super::ServeError;
use super::reload::Door;
use crate::config::{Settings, StoreSettings};
use crate::fixed::FixedData;
use crate::tls::{self, FileError};

/// Whether every file that the settings name can be used.
///
/// # Errors [`ServeError`], which names the setting and the file.
pub(crate) fn check(settings: &Settings) -> Result<(), ServeError> {
    Door::read(&settings.door)?;
    check_tls(settings)?;
    let fixed = settings.group.as_ref();
    if let Some(path) = fixed.and_then(|group| group.fixed_data.as_ref()) {
        FixedData::read(path)?;
    }
    Ok(())
}

/// The files by which this companion is a client of servers: they are used later, where an error would be one of a
/// connection, which is tried again for ever.
pub(super) fn check_tls(settings: &Settings) -> Result<(), FileError> {
    if let StoreSettings::Redis(redis) = &settings.store {
        tls::check(&redis.tls)?;
    }
    if let Some(group) = &settings.group {
        tls::check(&group.tls)?;
    }
    if let Some(sync) = &settings.sync {
        tls::check(&sync.tls)?;
    }
    let trace = settings.trace.as_ref();
    if let Some(path) = trace.and_then(|trace| trace.tls_ca.as_ref()) {
        tls::roots("trace.tls_ca", path)?;
    }
    Ok(())
}
