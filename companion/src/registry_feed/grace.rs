//! When the companion may let instances expire that did not renew, after a start, an outage or a refused request. Pure.
//!
//! Invariant: an instance has [`RENEWAL_GRACE`] to renew after anything that may have kept it from renewing.

use std::time::Duration;

use tokio::time::Instant;

use crate::leadership::Role;

/// After a start or an outage nothing expires for this long, and as long again as the outage: while
/// the store was away no instance could renew. The same after a refused request: it may have been a heartbeat; and once
/// our clock is found to be ahead of the store's time, by which instances renewed.
pub(super) const RENEWAL_GRACE: Duration = Duration::from_secs(30);

/// Within this time the other companions of the unit learn that this one refuses requests.
const TELL_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Grace {
    until: Instant,
    /// Since when the store is away, if it is.
    away_since: Option<Instant>,
    /// When the other companions were last told of refused requests.
    told: Option<Instant>,
    /// Whether our wall clock is ahead of the store's time.
    is_doubted: bool,
}

impl Grace {
    /// Of a companion that starts.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            until: now + RENEWAL_GRACE,
            away_since: None,
            told: None,
            is_doubted: false,
        }
    }

    /// Whether our wall clock is ahead of the store's time now.
    pub(super) fn clock(&mut self, is_doubted: bool, now: Instant) {
        if is_doubted && !self.is_doubted {
            self.until = self.until.max(now + RENEWAL_GRACE);
        }
        self.is_doubted = is_doubted;
    }

    /// A request was refused this long ago. Returns whether the other companions are to be told now: the leader must
    /// not expire instances that renew here.
    pub(super) fn refused(&mut self, ago: Duration, now: Instant) -> bool {
        let Some(left) = RENEWAL_GRACE.checked_sub(ago) else {
            return false;
        };
        self.until = self.until.max(now + left);
        let last = self.told.map(|told| now.saturating_duration_since(told));
        let is_due = ago < TELL_EVERY && last.is_none_or(|last| last >= TELL_EVERY / 2);
        if is_due {
            self.told = Some(now);
        }
        is_due
    }

    /// The store answered.
    pub(super) fn answered(&mut self, now: Instant) {
        if let Some(since) = self.away_since.take() {
            self.until = now + RENEWAL_GRACE + now.saturating_duration_since(since);
        }
    }

    /// The store did not answer. Returns whether that is new.
    pub(super) fn away(&mut self, now: Instant) -> bool {
        let is_new = self.away_since.is_none();
        self.away_since.get_or_insert(now);
        is_new
    }

    /// Whether this companion may remove what has expired. The leader does; while it is unknown, all do.
    pub(super) fn may_expire(&self, role: Role, now: Instant) -> bool {
        role != Role::Follower && self.away_since.is_none() && now >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::timer;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_expires_after_a_start_nor_where_another_companion_leads() {
        let start = timer();
        let grace = Grace::new(start);
        assert!(!grace.may_expire(Role::Leader(1), start + RENEWAL_GRACE - SECOND));
        let then = start + RENEWAL_GRACE;
        assert!(grace.may_expire(Role::Leader(1), then));
        assert!(grace.may_expire(Role::Unknown, then));
        assert!(!grace.may_expire(Role::Follower, then));
    }

    #[test]
    fn after_an_outage_instances_have_as_long_again_as_it_took() {
        let start = timer();
        let mut grace = Grace::new(start);
        let (begin, end) = (start + 100 * SECOND, start + 150 * SECOND);
        assert!(grace.away(begin));
        assert!(!grace.away(begin + SECOND));
        assert!(!grace.may_expire(Role::Leader(1), end));
        grace.answered(end);
        let until = end + RENEWAL_GRACE + 50 * SECOND;
        assert!(!grace.may_expire(Role::Leader(1), until - SECOND));
        assert!(grace.may_expire(Role::Leader(1), until));
        grace.answered(until);
        assert!(grace.may_expire(Role::Leader(1), until));
    }

    #[test]
    fn instances_renew_by_a_clock_that_jumped_before_they_expire_by_it() {
        let start = timer();
        let mut grace = Grace::new(start);
        let now = start + 100 * SECOND;
        grace.clock(false, now);
        assert!(grace.may_expire(Role::Leader(1), now));
        for ago in 0..30 {
            grace.clock(true, now + ago * SECOND);
            assert!(!grace.may_expire(Role::Leader(1), now + ago * SECOND));
        }
        assert!(grace.may_expire(Role::Leader(1), now + RENEWAL_GRACE));
    }

    #[test]
    fn a_refused_request_may_have_been_a_heartbeat() {
        let start = timer();
        let mut grace = Grace::new(start);
        let now = start + 100 * SECOND;
        grace.refused(10 * SECOND, now);
        assert!(!grace.may_expire(Role::Leader(1), now + 19 * SECOND));
        assert!(grace.may_expire(Role::Leader(1), now + 20 * SECOND));
        grace.refused(RENEWAL_GRACE + SECOND, now);
        assert!(grace.may_expire(Role::Leader(1), now + 20 * SECOND));
        // An older refusal does not shorten what a later one gave.
        grace.refused(Duration::ZERO, now);
        grace.refused(20 * SECOND, now);
        assert!(!grace.may_expire(Role::Leader(1), now + 29 * SECOND));
    }

    #[test]
    fn the_others_are_told_of_new_refusals_and_not_each_time() {
        let start = timer();
        let mut grace = Grace::new(start);
        assert!(!grace.refused(TELL_EVERY, start));
        assert!(grace.refused(Duration::ZERO, start));
        assert!(!grace.refused(Duration::ZERO, start + SECOND));
        assert!(grace.refused(SECOND, start + TELL_EVERY / 2));
    }
}
