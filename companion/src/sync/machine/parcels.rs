//! Fixed data for a unit → messages, one after the other: each is confirmed before the next is sent, so that neither
//! the link nor memory holds all of them, however many they are. A unit that misses one asks again.

use std::collections::{BTreeMap, VecDeque};

use unitring_protocol::envelope::Body;
use unitring_protocol::ids::UnitId;

use super::MessageId;

/// The messages of one unit.
#[derive(Debug, Default)]
struct Parcel {
    rest: VecDeque<Body>,
    /// The message that waits for its confirm.
    sent: MessageId,
}

/// The messages of all units.
#[derive(Debug, Default)]
pub(super) struct Parcels(BTreeMap<UnitId, Parcel>);

impl Parcels {
    pub(super) fn is_sending(&self, unit: &UnitId) -> bool {
        self.0.contains_key(unit)
    }

    pub(super) fn begin(&mut self, unit: &UnitId, bodies: Vec<Body>) {
        let parcel = Parcel {
            rest: bodies.into(),
            sent: 0,
        };
        self.0.insert(unit.clone(), parcel);
    }

    /// The next message for a unit, which is sent under this name.
    pub(super) fn next(&mut self, unit: &UnitId, id: MessageId) -> Option<Body> {
        let parcel = self.0.get_mut(unit)?;
        let Some(body) = parcel.rest.pop_front() else {
            self.0.remove(unit);
            return None;
        };
        parcel.sent = id;
        Some(body)
    }

    /// Whether the next message is due. Without a confirm the others are of no use.
    pub(super) fn published(&mut self, unit: &UnitId, id: MessageId, confirmed: bool) -> bool {
        let is_sent = |parcel: &Parcel| parcel.sent == id;
        if !self.0.get(unit).is_some_and(is_sent) {
            return false;
        }
        if !confirmed {
            self.0.remove(unit);
        }
        confirmed
    }

    pub(super) fn link_down(&mut self, unit: &UnitId) {
        self.0.remove(unit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_waits_for_the_confirm_of_the_one_before() {
        let (mut parcels, west): (Parcels, UnitId) = (Parcels::default(), "west".parse().unwrap());
        let body = Body::FixedRequest {};
        parcels.begin(&west, vec![body.clone(), body.clone()]);
        assert_eq!(parcels.next(&west, 1), Some(body.clone()));
        assert!(!parcels.published(&west, 7, true));
        assert!(parcels.published(&west, 1, true));
        assert_eq!(parcels.next(&west, 2), Some(body.clone()));
        assert!(parcels.is_sending(&west));
        assert!(parcels.published(&west, 2, true));
        assert_eq!(parcels.next(&west, 3), None);
        assert!(!parcels.is_sending(&west));
        // A message that is not confirmed ends it.
        parcels.begin(&west, vec![body.clone(), body]);
        assert!(parcels.next(&west, 4).is_some());
        assert!(!parcels.published(&west, 4, false));
        assert!(!parcels.is_sending(&west));
    }
}
