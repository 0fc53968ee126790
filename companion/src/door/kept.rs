//! Bytes that clients make us keep: one bound for all of them, and a smaller one for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::credentials::Principal;

/// A bound in bytes over what all clients make us keep of one kind.
#[derive(Debug)]
pub struct Kept {
    max: usize,
    of_one: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by: BTreeMap<Principal, usize>,
}

/// Bytes that are held for a client; dropping it gives them back.
#[derive(Debug)]
pub struct Share {
    kept: Arc<Kept>,
    of: Principal,
    bytes: usize,
}

impl Kept {
    /// At most so many bytes, half of them for one client.
    pub fn new(max: usize) -> Arc<Self> {
        Self::with(max, max / 2)
    }

    /// At most so many, and so many for one client; of bytes, or of what else is counted.
    pub fn with(max: usize, of_one: usize) -> Arc<Self> {
        let held = Mutex::default();
        Arc::new(Self { max, of_one, held })
    }

    /// Nothing yet, for a client.
    pub fn share(self: &Arc<Self>, of: Principal) -> Share {
        let kept = Arc::clone(self);
        Share { kept, of, bytes: 0 }
    }

    /// How many bytes are held.
    pub fn bytes(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl Share {
    /// Holds so many bytes instead of what it held. Returns whether they fit; if not, it holds what it did.
    #[must_use]
    pub fn set(&mut self, bytes: usize) -> bool {
        let held = self.kept.held.lock();
        let mut held = held.unwrap_or_else(PoisonError::into_inner);
        let own = held.by.get(&self.of).copied().unwrap_or(0);
        let (all_then, own_then) = (
            held.all - self.bytes.min(held.all) + bytes,
            own - self.bytes.min(own) + bytes,
        );
        let fits = all_then <= self.kept.max && own_then <= self.kept.of_one;
        if bytes > self.bytes && !fits {
            return false;
        }
        held.all = all_then;
        match own_then {
            0 => drop(held.by.remove(&self.of)),
            bytes => drop(held.by.insert(self.of.clone(), bytes)),
        }
        self.bytes = bytes;
        true
    }

    /// Holds so many bytes more. Returns whether they fit.
    #[must_use]
    pub fn add(&mut self, bytes: usize) -> bool {
        self.set(self.bytes.saturating_add(bytes))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Fewer bytes always fit.
        let _fits = self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_holds_at_most_half_and_gives_back_what_it_held() {
        let kept = Kept::new(100);
        let of = |name: &str| kept.share(Principal::Credential(name.to_owned()));
        let (mut a, mut again, mut b) = (of("a"), of("a"), of("b"));
        assert!(a.set(40) && !again.set(11) && again.set(10) && b.set(50));
        assert!(!b.add(1) && !of("c").set(1));
        assert_eq!(kept.bytes(), 100);
        assert!(a.set(20));
        assert!(of("c").set(20));
        drop((a, again, b));
        assert_eq!(kept.bytes(), 0);
    }
}
