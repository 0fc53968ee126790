//! The open connections, and which of them is displaced when a new one needs a place.
//!
//! Silent connections are the cheapest way to shut out all other clients: they cost their sender nothing. So there is
//! a bound below the process' limit of open files, and a new connection takes the place of one that has done nothing
//! yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Address;
use super::credentials::Principal;

/// The open connections of one listening address.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    last: u64,
    /// By number, which grows, so that the oldest is first.
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    address: Address,
    /// Whether a request of it has succeeded.
    is_proven: bool,
    /// Requests or streams that are under way and were let in.
    under_way: usize,
    /// The client whose requests they are, once it is known.
    owner: Option<Principal>,
    end: Arc<Notify>,
}

/// A place among the connections; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    number: u64,
    end: Arc<Notify>,
}

/// How a new connection got its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Free,
    /// A quiet connection has to go.
    Made,
}

impl Connections {
    /// At most `max` connections.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        let all = Mutex::default();
        Arc::new(Self { max, all })
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// A place for a new connection, or `None` if all others are at work.
    pub(crate) fn enter(self: &Arc<Self>, address: Address) -> Option<(Place, Room)> {
        let mut all = self.lock();
        // At most half of them, so that one address cannot have all.
        let own = all.open.values().filter(|open| open.address == address);
        let is_over = own.count() >= self.half();
        let mut room = Room::Free;
        if is_over || all.open.len() >= self.max {
            let number = self.who_goes(&all, is_over.then_some(address))?;
            all.open.remove(&number)?.end.notify_one();
            room = Room::Made;
        }
        all.last += 1;
        let (number, end) = (all.last, Arc::new(Notify::new()));
        let open = Open {
            address,
            is_proven: false,
            under_way: 0,
            owner: None,
            end: Arc::clone(&end),
        };
        all.open.insert(number, open);
        let place = Place {
            connections: Arc::clone(self),
            number,
            end,
        };
        Some((place, room))
    }

    /// The connection that makes room, of an address or of any: the oldest that has done nothing yet, or is idle, or
    /// belongs to a client that has too many.
    fn who_goes(&self, all: &All, of: Option<Address>) -> Option<u64> {
        let may_go = || {
            let open = all.open.iter();
            open.filter(|(_, open)| of.is_none_or(|of| open.address == of))
        };
        let idle = || may_go().filter(|(_, open)| open.under_way == 0);
        let number = idle()
            .find(|(_, open)| !open.is_proven)
            .or_else(|| idle().next())
            .or_else(|| {
                let greedy = self.greedy(all)?;
                may_go().find(|(_, open)| open.owner.as_ref() == Some(greedy))
            });
        number.map(|(number, _)| *number)
    }

    /// The client that has half of all connections, from any addresses, if there is one.
    fn greedy<'a>(&self, all: &'a All) -> Option<&'a Principal> {
        let mut counts: BTreeMap<&Principal, usize> = BTreeMap::new();
        for owner in all.open.values().filter_map(|open| open.owner.as_ref()) {
            *counts.entry(owner).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count)?;
        (most.1 >= self.half()).then_some(most.0)
    }

    /// The limit of one address or client.
    fn half(&self) -> usize {
        (self.max / 2).max(1)
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.lock().open.len()
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        // Each change of it is one step, so a panic leaves nothing halfway.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Returns once the connection has to go.
    pub(crate) async fn lost(&self) {
        self.end.notified().await;
    }

    /// A request or stream of a client was let in.
    pub(super) fn begins(&self, by: &Principal) {
        self.change(|open| {
            open.under_way += 1;
            if open.owner.as_ref() != Some(by) {
                open.owner = Some(by.clone());
            }
        });
    }

    pub(crate) fn end(&self) {
        self.end.notify_one();
    }

    /// It has ended.
    pub(super) fn ends(&self) {
        self.change(|open| open.under_way = open.under_way.saturating_sub(1));
    }

    /// A request of it succeeded.
    pub(crate) fn proves(&self) {
        self.change(|open| open.is_proven = true);
    }

    fn change(&self, change: impl FnOnce(&mut Open)) {
        if let Some(open) = self.connections.lock().open.get_mut(&self.number) {
            change(open);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn at(number: u8) -> Address {
        IpAddr::from([10, 0, 0, number]).into()
    }

    fn is_lost(place: &Place) -> bool {
        use futures::FutureExt as _;
        place.lost().now_or_never().is_some()
    }

    #[test]
    fn the_oldest_that_has_done_nothing_makes_room() {
        let all = Connections::new(4);
        let (proven, _) = all.enter(at(1)).unwrap();
        proven.proves();
        let (busy, _) = all.enter(at(2)).unwrap();
        let by = |name: &str| Principal::Credential(name.to_owned());
        busy.begins(&by("a"));
        let (silent, _) = all.enter(at(3)).unwrap();
        let (later, _) = all.enter(at(4)).unwrap();
        let (new, room) = all.enter(at(5)).unwrap();
        assert_eq!((room, all.count()), (Room::Made, 4));
        assert!(is_lost(&silent) && !is_lost(&later) && !is_lost(&new));
        new.begins(&by("b"));
        later.begins(&by("c"));
        // Now the idle connection that has had an answer is the next.
        let (last, _) = all.enter(at(6)).unwrap();
        assert!(is_lost(&proven));
        last.begins(&by("d"));
        assert!(all.enter(at(7)).is_none());
        busy.ends();
        assert!(all.enter(at(7)).is_some() && is_lost(&busy));
    }

    #[test]
    fn a_client_that_has_half_makes_room_although_it_is_at_work() {
        let all = Connections::new(4);
        let of = |name: &str| Principal::Credential(name.to_owned());
        let places: Vec<Place> = (1..=4).map(|from| all.enter(at(from)).unwrap().0).collect();
        for (place, by) in places.iter().zip(["a", "b", "b", "c"]) {
            place.begins(&of(by));
        }
        let (_new, room) = all.enter(at(5)).unwrap();
        let lost: Vec<bool> = places.iter().map(is_lost).collect();
        assert_eq!((room, lost), (Room::Made, vec![false, true, false, false]));
    }

    #[test]
    fn an_address_that_has_half_of_all_makes_room_of_its_own() {
        let all = Connections::new(6);
        let other = all.enter(at(9)).unwrap().0;
        let own: Vec<Place> = (0..3).map(|_| all.enter(at(1)).unwrap().0).collect();
        let (_again, room) = all.enter(at(1)).unwrap();
        assert_eq!(
            (room, is_lost(&own[0]), is_lost(&other)),
            (Room::Made, true, false)
        );
        drop(own);
        assert_eq!(all.count(), 2);
    }
}
