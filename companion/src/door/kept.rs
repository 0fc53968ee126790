//! Resources that clients hold: bytes that the companion keeps for them, or places among the requests at work. There
//! is one bound for all clients, and a smaller one for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::credentials::Principal;

/// A bound over what all clients hold of one kind.
#[derive(Debug)]
pub(crate) struct Kept {
    max: usize,
    of_one: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by: BTreeMap<Principal, usize>,
}

/// The share that is held for a client; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Share {
    kept: Arc<Kept>,
    of: Principal,
    size: usize,
}

impl Kept {
    /// At most `max`, half of them for one client.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Self::with(max, max / 2)
    }

    /// At most `max`, and `of_one` for one client.
    pub(crate) fn with(max: usize, of_one: usize) -> Arc<Self> {
        let held = Mutex::default();
        Arc::new(Self { max, of_one, held })
    }

    /// An empty share for a client.
    pub(crate) fn share(self: &Arc<Self>, of: Principal) -> Share {
        let kept = Arc::clone(self);
        Share { kept, of, size: 0 }
    }

    /// A place for a client, or `None` if it has all that it may have, or all are taken.
    pub(crate) fn place(self: &Arc<Self>, of: Principal) -> Option<Share> {
        let mut share = self.share(of);
        share.set(1).then_some(share)
    }
}

impl Share {
    /// Changes the amount that it holds. Returns whether the new amount fits; if not, the old one stays.
    #[must_use]
    pub(crate) fn set(&mut self, size: usize) -> bool {
        let held = self.kept.held.lock();
        let mut held = held.unwrap_or_else(PoisonError::into_inner);
        let own = held.by.get(&self.of).copied().unwrap_or(0);
        let (all_then, own_then) = (held.all - self.size + size, own - self.size + size);
        let fits = all_then <= self.kept.max && own_then <= self.kept.of_one;
        if size > self.size && !fits {
            return false;
        }
        held.all = all_then;
        match own_then {
            0 => drop(held.by.remove(&self.of)),
            own => drop(held.by.insert(self.of.clone(), own)),
        }
        self.size = size;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Fewer always fit.
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
        let held = || kept.held.lock().unwrap().all;
        assert!(!b.set(51) && !of("c").set(1));
        assert_eq!(held(), 100);
        assert!(a.set(20));
        assert!(of("c").set(20));
        drop((a, again, b));
        assert_eq!(held(), 0);
    }
    #[test]
    fn a_client_has_at_most_half_of_the_places() {
        let places = Kept::new(4);
        let by = |name: &str| Principal::Credential(name.to_owned());
        let taken: Vec<Option<Share>> = (0..3).map(|_| places.place(by("a"))).collect();
        assert_eq!(taken.iter().flatten().count(), 2);
        let others = (places.place(by("b")), places.place(by("c")));
        assert!(others.0.is_some() && others.1.is_some() && places.place(by("d")).is_none());
        drop(taken);
        assert!(places.place(by("d")).is_some());
    }
}
