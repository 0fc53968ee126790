//! The quota of bytes of new entries that a reporter may add to the event log, so that a noisy or hostile one does not
//! push out the events of others within a day.
//!
//! An event that is counted with an existing entry costs nothing, so in a fleet only the first observer pays. A
//! reporter's room comes back evenly over an hour.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use unitring_protocol::ids::ReporterId;

use crate::door::credentials::Principal;
use crate::store::EVENTS_BYTES_MAX;

/// Bytes of entries that one reporter may add in an hour: some 2,000 entries. In a day it adds at most three quarters of
/// the log.
pub(super) const REPORTER_EVENTS_BYTES_MAX: u64 = EVENTS_BYTES_MAX / 32;
/// Bytes of entries that all reporters of one client may add in an hour, since a client may invent their names. Where
/// all have one credential, the log still has at least the last four hours.
pub(super) const CLIENT_EVENTS_BYTES_MAX: u64 = EVENTS_BYTES_MAX / 4;
/// Reporters and clients that are remembered, since they added entries within the last hour. Where there are more, the
/// one that has used least is forgotten.
const USERS_MAX: usize = 8_192;
const HOUR_MS: u64 = 3_600_000;

/// The room of all reporters.
#[derive(Default)]
pub(crate) struct Room {
    used: Mutex<BTreeMap<User, Used>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum User {
    Reporter(ReporterId),
    Client(Principal),
}

#[derive(Debug, Clone, Copy, Default)]
struct Used {
    bytes: u64,
    at_ms: u64,
    /// When the log last said that events were left out.
    told_ms: Option<u64>,
}

impl User {
    fn bytes_max(&self) -> u64 {
        match self {
            Self::Reporter(_) => REPORTER_EVENTS_BYTES_MAX,
            Self::Client(_) => CLIENT_EVENTS_BYTES_MAX,
        }
    }
}

impl Used {
    /// The bytes that are still used at this time.
    fn now(&self, max: u64, now_ms: u64) -> u64 {
        let since_ms = now_ms.saturating_sub(self.at_ms).min(HOUR_MS);
        self.bytes.saturating_sub(max * since_ms / HOUR_MS)
    }
}

fn users(reporter: &ReporterId, by: &Principal) -> [User; 2] {
    [User::Reporter(reporter.clone()), User::Client(by.clone())]
}

impl Room {
    /// The bytes that a reporter may add now.
    pub(super) fn left(&self, reporter: &ReporterId, by: &Principal, now_ms: u64) -> u64 {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let left = users(reporter, by).map(|user| {
            let of = used.get(&user);
            let bytes = of.map_or(0, |used| used.now(user.bytes_max(), now_ms));
            user.bytes_max().saturating_sub(bytes)
        });
        left.into_iter().min().unwrap_or(0)
    }

    /// Counts the bytes that a reporter has added.
    pub(super) fn took(&self, reporter: &ReporterId, by: &Principal, bytes: u64, now_ms: u64) {
        if bytes == 0 {
            return;
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        for user in users(reporter, by) {
            let max = user.bytes_max();
            make_room(&mut used, &user, now_ms);
            let of = used.entry(user).or_default();
            of.bytes = of.now(max, now_ms).saturating_add(bytes);
            of.at_ms = now_ms;
        }
    }

    /// Whether to log now that events of this reporter were left out: once in an hour, if the log `admits` it.
    pub(super) fn tells(
        &self,
        reporter: &ReporterId,
        now_ms: u64,
        admits: impl FnOnce() -> bool,
    ) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let user = User::Reporter(reporter.clone());
        make_room(&mut used, &user, now_ms);
        let of = used.entry(user).or_default();
        let is_due = |told| now_ms.saturating_sub(told) >= HOUR_MS;
        let tells = of.told_ms.is_none_or(is_due) && admits();
        if tells {
            of.told_ms = Some(now_ms);
        }
        tells
    }
}

/// Forgets the reporters that use nothing any more, and if that is not enough the one that uses least.
fn make_room(used: &mut BTreeMap<User, Used>, user: &User, now_ms: u64) {
    if used.len() < USERS_MAX || used.contains_key(user) {
        return;
    }
    let is_told = |of: &Used| {
        of.told_ms
            .is_some_and(|told| now_ms.saturating_sub(told) < HOUR_MS)
    };
    used.retain(|user, of| of.now(user.bytes_max(), now_ms) > 0 || is_told(of));
    if used.len() >= USERS_MAX {
        let least = used
            .iter()
            .min_by_key(|(user, of)| of.now(user.bytes_max(), now_ms));
        if let Some(least) = least.map(|(user, _)| user.clone()) {
            used.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(name: &str) -> Principal {
        Principal::Credential(name.to_owned())
    }

    fn named(number: usize) -> ReporterId {
        format!("e{number}").parse().unwrap()
    }

    #[test]
    fn a_reporter_has_its_room_in_an_hour_and_its_client_the_room_of_eight() {
        let room = Room::default();
        let fill = |number: usize, name: &str, now_ms| {
            let left = room.left(&named(number), &by(name), now_ms);
            room.took(&named(number), &by(name), left, now_ms);
            left
        };
        let of_one = REPORTER_EVENTS_BYTES_MAX;
        assert_eq!(fill(0, "a", 1_000), of_one);
        assert_eq!(fill(0, "a", 1_000), 0);
        let all: u64 = (1..100).map(|number| fill(number, "a", 1_000)).sum();
        assert_eq!(all + of_one, CLIENT_EVENTS_BYTES_MAX);
        assert_eq!(fill(200, "b", 1_000), of_one);
        // It comes back evenly.
        assert_eq!(fill(0, "a", 1_000 + HOUR_MS / 2), of_one / 2);
        assert_eq!(fill(0, "a", 1_000 + 2 * HOUR_MS), of_one);
    }

    #[test]
    fn it_is_told_once_in_an_hour() {
        let room = Room::default();
        let tells = |number, now_ms| room.tells(&named(number), now_ms, || true);
        assert!(!room.tells(&named(1), 5, || false));
        assert!(tells(1, 5) && !tells(1, 6) && tells(2, 6));
        assert!(!tells(1, 4 + HOUR_MS) && tells(1, 5 + HOUR_MS));
    }

    #[test]
    fn no_more_are_remembered_than_so_many_and_those_who_use_most_stay() {
        let room = Room::default();
        let most = (named(0), by("a"));
        room.took(&most.0, &most.1, REPORTER_EVENTS_BYTES_MAX, 1_000);
        for number in 1..3 * USERS_MAX {
            room.took(&named(number), &by("a"), 1, 1_000);
        }
        assert!(room.used.lock().unwrap().len() <= USERS_MAX);
        assert_eq!(room.left(&most.0, &most.1, 1_000), 0);
    }
}
