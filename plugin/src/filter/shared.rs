//! Data shared by the VMs of the process through Envoy: one global lock and a copy in and out, so
//! no request touches it.

use proxy_wasm::hostcalls;
use proxy_wasm::types::Status;

use unitring_balancer::stored::{Stored, decode, encode};

/// The key of a value that the VMs of a process share for a service. Without `settings` all VMs of
/// the service share it; otherwise only those with the same settings.
pub(super) fn key(what: &str, settings: Option<u64>, service: &str) -> String {
    match settings {
        Some(settings) => format!("unitring/{what}-{settings:016x}/{service}"),
        None => format!("unitring/{what}/{service}"),
    }
}

/// Changes a value that several VMs change; `change` returns `false` to leave it. Returns whether
/// the value was written.
pub(super) fn change<T: Stored + Default>(
    key: &str,
    mut change: impl FnMut(&mut T) -> bool,
) -> bool {
    const TRIES: usize = 8;
    for _ in 0..TRIES {
        let (mut value, version) =
            read(key).map_or_else(|| (T::default(), None), |(value, v)| (value, Some(v)));
        if !change(&mut value) {
            return false;
        }
        if write(key, &value, version) {
            return true;
        }
    }
    false
}

/// A value under a key, and a small second key whose version shows cheaply whether the value
/// changed.
#[derive(Debug)]
pub(super) struct Shared {
    key: String,
    generation_key: String,
    seen: Option<u32>,
}

impl Shared {
    pub(super) fn new(key: String) -> Self {
        Self {
            generation_key: format!("{key}/generation"),
            key,
            seen: None,
        }
    }

    /// The value, if another VM has written it since this VM last looked.
    pub(super) fn changed<T: Stored>(&mut self) -> Option<T> {
        self.changed_by(|bytes| decode(&bytes))
    }

    /// The same, read in another way.
    pub(super) fn changed_by<T>(&mut self, read: impl FnOnce(Vec<u8>) -> Option<T>) -> Option<T> {
        // Envoy counts the versions of a key; reading the small key spares a copy of the large one.
        let (_, generation) = hostcalls::get_shared_data(&self.generation_key).ok()?;
        if generation.is_none() || generation == self.seen {
            return None;
        }
        self.seen = generation;
        let (bytes, _) = hostcalls::get_shared_data(&self.key).ok()?;
        let value = read(bytes?);
        if value.is_none() {
            log::error!("unitring: shared data {} is not readable", self.key);
        }
        value
    }

    /// Writes the value for the other VMs. This VM does not see it as a change.
    pub(super) fn publish(&mut self, value: &impl Stored) {
        self.publish_bytes(&encode(value));
    }

    /// The same with the bytes of a value.
    pub(super) fn publish_bytes(&mut self, bytes: &[u8]) {
        let written = hostcalls::set_shared_data(&self.key, Some(bytes), None)
            .and_then(|()| hostcalls::set_shared_data(&self.generation_key, Some(b"1"), None));
        if let Err(status) = written {
            log::error!(
                "unitring: shared data {} could not be written: {status:?}",
                self.key
            );
        }
        if let Ok((_, generation)) = hostcalls::get_shared_data(&self.generation_key) {
            self.seen = generation;
        }
    }
}

/// Reads a value and Envoy's version of it.
pub(super) fn read<T: Stored>(key: &str) -> Option<(T, u32)> {
    let (bytes, version) = hostcalls::get_shared_data(key).ok()?;
    Some((decode(&bytes?)?, version?))
}

/// Writes a value unless another VM has written since `version`. Envoy does not check an absent
/// key.
pub(super) fn write(key: &str, value: &impl Stored, version: Option<u32>) -> bool {
    match hostcalls::set_shared_data(key, Some(&encode(value)), version) {
        Ok(()) => true,
        Err(Status::CasMismatch) => false,
        Err(status) => {
            log::error!("unitring: shared data {key} could not be written: {status:?}");
            false
        }
    }
}
