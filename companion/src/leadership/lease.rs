//! Whether this companion leads, by the store's answers and the time. Pure: the shell asks the store, and says when it
//! asked and what came back.
//!
//! Invariant: a companion trusts a lease for less time than the store grants it, counted from before it asked. So it
//! stops before the store lets another companion lead, however long the answer took.

use std::time::Duration;

use tokio::time::Instant;

use super::Role;

/// How long a leader trusts its lease after it last asked for it.
pub(super) const TRUSTED_FOR: Duration = Duration::from_millis(2_500);

/// The answer of the store to a companion that asks for the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is this companion's, with this term.
    Granted(u64),
    /// Another companion has it.
    Held,
    /// The store failed, or did not answer in time.
    Nothing,
}

/// This companion's side of the lease.
#[derive(Debug, Default)]
pub(super) struct Lease {
    role: Role,
    /// Until when it trusts the lease, if it leads.
    until: Option<Instant>,
}

impl Lease {
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// When the role ends unless the lease is renewed.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Until when an answer to what is asked now is waited for. A leader without an answer stops when its lease ends,
    /// not when the answer is due.
    pub(super) fn patience(&self, asked: Instant) -> Instant {
        self.until.unwrap_or(asked + TRUSTED_FOR)
    }

    /// Takes the answer to what was asked at `asked`.
    pub(super) fn answered(&mut self, answer: Answer, asked: Instant, now: Instant) {
        match answer {
            Answer::Granted(term) => {
                self.role = Role::Leader(term);
                self.until = Some(asked + TRUSTED_FOR);
            }
            Answer::Held => {
                self.role = Role::Follower;
                self.until = None;
            }
            // The leader keeps its role until the lease ends; a follower no longer knows.
            Answer::Nothing if self.until.is_some() => {}
            Answer::Nothing => self.role = Role::Unknown,
        }
        self.pass(now);
    }

    /// Ends the role if the lease has.
    pub(super) fn pass(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            self.give_up();
        }
    }

    /// Leads no more.
    pub(super) fn give_up(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::timer;
    use crate::store::LEASE;

    /// A lease that was granted at `start`.
    fn granted(start: Instant) -> Lease {
        let mut lease = Lease::default();
        lease.answered(Answer::Granted(7), start, start);
        lease
    }

    #[test]
    fn a_leader_stops_before_the_store_lets_another_lead() {
        assert!(TRUSTED_FOR < LEASE);
        let start = timer();
        let mut lease = granted(start);
        assert_eq!(lease.role(), Role::Leader(7));
        lease.pass(start + TRUSTED_FOR - Duration::from_millis(1));
        assert_eq!(lease.role(), Role::Leader(7));
        lease.pass(start + TRUSTED_FOR);
        assert_eq!((lease.role(), lease.until()), (Role::Unknown, None));
    }

    #[test]
    fn a_lease_counts_from_the_question_and_a_late_answer_grants_nothing() {
        let start = timer();
        let mut lease = Lease::default();
        lease.answered(Answer::Granted(7), start, start + Duration::from_secs(2));
        assert_eq!(lease.until(), Some(start + TRUSTED_FOR));
        lease.answered(Answer::Granted(8), start, start + TRUSTED_FOR);
        assert_eq!(lease.role(), Role::Unknown);
    }

    #[test]
    fn a_leader_without_an_answer_leads_until_its_lease_ends_and_waits_no_longer() {
        let start = timer();
        let (mut lease, asked) = (granted(start), start + Duration::from_secs(1));
        assert_eq!(lease.patience(asked), start + TRUSTED_FOR);
        lease.answered(Answer::Nothing, asked, start + Duration::from_secs(2));
        assert_eq!(lease.role(), Role::Leader(7));
        lease.answered(Answer::Nothing, asked, start + TRUSTED_FOR);
        assert_eq!(lease.role(), Role::Unknown);
        assert_eq!(lease.patience(asked), asked + TRUSTED_FOR);
    }

    #[test]
    fn a_follower_without_an_answer_does_not_know_who_leads() {
        let start = timer();
        let mut lease = granted(start);
        lease.answered(Answer::Held, start, start);
        assert_eq!((lease.role(), lease.until()), (Role::Follower, None));
        lease.answered(Answer::Nothing, start, start);
        assert_eq!(lease.role(), Role::Unknown);
    }

    #[test]
    fn who_gives_up_leads_no_more_until_the_next_grant() {
        let start = timer();
        let mut lease = granted(start);
        lease.give_up();
        assert_eq!((lease.role(), lease.until()), (Role::Unknown, None));
        lease.answered(Answer::Granted(8), start, start);
        assert_eq!(lease.role(), Role::Leader(8));
    }
}
