//! Which VM of an Envoy process discovers and reports: one, however many workers there are.
//!
//! The lease is kept in Envoy's shared data. It saves work and is not needed for safety: if two VMs
//! ever hold it for a moment, the companion drops the older of two reports.
//!
//! A VM that serves requests avoids the lease, since its work would delay them. It gives the lease
//! up once, and takes it again only if no other VM has wanted it for a while.

use crate::stored::stored;

/// How long a lease lasts without a renewal.
pub const LEASE_MS: u64 = 3_000;

/// The lease in shared data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The VM that holds it; 0 for no VM.
    pub holder: u64,
    /// When it expires, in milliseconds since the Unix epoch.
    pub until_ms: u64,
    /// When the holder's settings came into force, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// The holder's settings, by their hash.
    pub configuration: u64,
}

stored!(Lease {
    holder,
    until_ms,
    since_ms,
    configuration
});

impl Lease {
    /// A lease that no VM holds, with which the process starts.
    pub const FREE: Lease = Lease {
        holder: 0,
        until_ms: 0,
        since_ms: 0,
        configuration: 0,
    };
}

/// One VM's side of the lease.
#[derive(Debug)]
pub struct Claimant {
    /// Unique among the VMs of the process, and not 0.
    vm: u64,
    configuration: u64,
    /// When its settings came into force, in milliseconds since the Unix epoch.
    since_ms: u64,
    gave_up: bool,
}

/// The next step of a VM for the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Another VM holds it.
    Follow,
    /// Write this lease. If the write succeeds, this VM holds it until the next tick.
    Take(Lease),
    /// Write this lease; this VM no longer holds it.
    GiveUp(Lease),
}

impl Claimant {
    /// `vm` is any number that no other VM of the process has, and `configuration` a hash of its
    /// settings. `since_ms` is when these were loaded, if holders may have different settings: a VM
    /// with newer settings takes the lease at once, since Envoy keeps a replaced filter chain for its
    /// drain time, ten minutes by default.
    pub fn new(vm: u64, configuration: u64, since_ms: u64) -> Self {
        Self {
            vm: vm.max(1),
            configuration,
            since_ms,
            gave_up: false,
        }
    }

    /// The settings of this VM came into force again, so they are the newest.
    pub fn renew(&mut self, now_ms: u64) {
        self.since_ms = self.since_ms.max(now_ms);
    }

    /// Decides by the current lease, and by whether this VM has served requests.
    pub fn claim(&mut self, lease: &Lease, serves: bool, now_ms: u64) -> Claim {
        if lease.holder == self.vm {
            if serves && !self.gave_up {
                self.gave_up = true;
                // Not `FREE`: the other workers' grace period starts now.
                return Claim::GiveUp(Lease {
                    holder: 0,
                    until_ms: now_ms,
                    since_ms: lease.since_ms,
                    configuration: lease.configuration,
                });
            }
            return self.take(now_ms);
        }
        let grace_ms = if serves { 2 * LEASE_MS } else { 0 };
        // A clock that was set back must not freeze the lease for that long.
        let expired = now_ms >= lease.until_ms.saturating_add(grace_ms);
        let impossible = lease.until_ms > now_ms.saturating_add(2 * LEASE_MS);
        let is_newer = self.since_ms > lease.since_ms && !serves;
        if expired || impossible || is_newer {
            self.take(now_ms)
        } else {
            Claim::Follow
        }
    }

    fn take(&self, now_ms: u64) -> Claim {
        Claim::Take(Lease {
            holder: self.vm,
            until_ms: now_ms.saturating_add(LEASE_MS),
            since_ms: self.since_ms,
            configuration: self.configuration,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(vm: &mut Claimant, lease: &mut Lease, serves: bool, now_ms: u64) -> bool {
        match vm.claim(lease, serves, now_ms) {
            Claim::Follow => false,
            Claim::Take(new) => {
                *lease = new;
                true
            }
            Claim::GiveUp(new) => {
                *lease = new;
                false
            }
        }
    }

    #[test]
    fn one_of_several_holds_it_and_another_takes_over_when_it_dies() {
        let (mut a, mut b, mut lease) =
            (Claimant::new(1, 0, 0), Claimant::new(2, 0, 0), Lease::FREE);
        assert!(step(&mut a, &mut lease, false, 1_000));
        assert!(!step(&mut b, &mut lease, false, 1_100));
        assert!(step(&mut a, &mut lease, false, 2_000), "renewed");
        assert!(!step(&mut b, &mut lease, false, 4_900));
        assert!(step(&mut b, &mut lease, false, 5_000), "expired");
        assert!(!step(&mut a, &mut lease, false, 5_100));
    }

    #[test]
    fn a_worker_hands_it_to_a_vm_that_serves_nobody() {
        let (mut worker, mut main) = (Claimant::new(1, 0, 0), Claimant::new(2, 0, 0));
        let mut lease = Lease::FREE;
        assert!(step(&mut worker, &mut lease, false, 10_000));
        assert!(!step(&mut worker, &mut lease, true, 10_250), "serves now");
        assert!(
            !step(&mut worker, &mut lease, true, 10_300),
            "waits for others"
        );
        assert!(step(&mut main, &mut lease, false, 10_400));
        assert!(!step(&mut worker, &mut lease, true, 10_500));
    }

    #[test]
    fn a_worker_takes_it_where_nobody_else_is_left() {
        let (mut worker, mut lease) = (Claimant::new(1, 0, 0), Lease::FREE);
        assert!(step(&mut worker, &mut lease, false, 10_000));
        assert!(!step(&mut worker, &mut lease, true, 10_250));
        assert!(!step(&mut worker, &mut lease, true, 16_249));
        assert!(step(&mut worker, &mut lease, true, 16_250));
        assert!(step(&mut worker, &mut lease, true, 16_500), "and keeps it");
    }

    #[test]
    fn newer_settings_take_it_at_once_and_keep_it() {
        let (mut old, mut new) = (Claimant::new(1, 0, 100), Claimant::new(2, 0, 5_000));
        let mut lease = Lease::FREE;
        assert!(step(&mut old, &mut lease, false, 1_000));
        assert!(
            !step(&mut new, &mut lease, true, 1_100),
            "it serves, and waits"
        );
        assert!(step(&mut new, &mut lease, false, 1_200));
        assert!(!step(&mut old, &mut lease, false, 1_300));
        assert!(
            step(&mut old, &mut lease, false, 4_200),
            "nobody else is left"
        );
    }

    #[test]
    fn settings_that_come_into_force_again_take_it() {
        let (mut first, mut second) = (Claimant::new(1, 7, 100), Claimant::new(2, 8, 5_000));
        let mut lease = Lease::FREE;
        assert!(step(&mut second, &mut lease, false, 5_000));
        assert!(!step(&mut first, &mut lease, false, 5_100));
        first.renew(6_000);
        assert!(step(&mut first, &mut lease, false, 6_000));
        assert_eq!((lease.configuration, lease.since_ms), (7, 6_000));
        assert!(!step(&mut second, &mut lease, false, 6_100));
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_freeze_it() {
        let (mut a, mut lease) = (
            Claimant::new(1, 0, 0),
            Lease {
                holder: 9,
                until_ms: 1_000_000,
                ..Lease::FREE
            },
        );
        assert!(step(&mut a, &mut lease, false, 1_000));
    }
}
