//! Attempts of one request → the hosts that it was sent to before.
//!
//! Envoy asks for a host once for each attempt, and does not say which attempt it is. A route's predicate
//! (`previous_hosts`) refuses the hosts of earlier ones; `tcp_proxy` has no predicate, and a route may have none. So
//! each worker remembers the latest choices by caller. A caller that asks again is retrying if the host that it got
//! has failed to connect since. A caller that asks again for another reason, such as a proxy that asks once for each
//! of its commands, finds its host without such a failure, and stays with it.

/// How many requests are remembered, a power of two.
const REMEMBERED: usize = 512;
/// The most hosts of one request that are remembered.
const TRIED_MAX: usize = 7;

/// A priority, and a place among all of its hosts.
pub type Host = (u32, usize);

/// The hosts that a request was sent to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried {
    hosts: [(u32, u32); TRIED_MAX],
    count: u8,
}

impl Tried {
    #[inline]
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether a host is among them.
    #[inline]
    pub fn has(&self, host: Host) -> bool {
        let of = |(priority, at): &(u32, u32)| (*priority, usize::try_from(*at).ok());
        let hosts = self.hosts.iter().take(self.count());
        hosts.map(of).any(|tried| tried == (host.0, Some(host.1)))
    }

    /// These and one more; the oldest goes if there are too many.
    fn and(mut self, (priority, at): Host) -> Self {
        let host = (priority, u32::try_from(at).unwrap_or(u32::MAX));
        if self.count() == TRIED_MAX {
            self.hosts.rotate_left(1);
            self.count -= 1;
        }
        let count = self.count();
        if let Some(place) = self.hosts.get_mut(count) {
            *place = host;
            self.count += 1;
        }
        self
    }
}

/// The latest attempts of one worker.
#[derive(Debug)]
pub struct Attempts(Box<[Attempt]>);

/// The latest attempt of a request.
#[derive(Debug, Clone, Copy, Default)]
struct Attempt {
    party: usize,
    hash: u64,
    tried: Tried,
    last: Host,
    /// The failed connects of the last host, by Envoy's count, when the request was sent there.
    failures: u64,
}

impl Default for Attempts {
    fn default() -> Self {
        Self(vec![Attempt::default(); REMEMBERED].into())
    }
}

impl Attempts {
    fn last(&self, party: usize, hash: u64) -> Option<&Attempt> {
        let last = self.0.get(place(party))?;
        Some(last).filter(|last| last.party == party && last.hash == hash)
    }

    /// The hosts that this party was sent to for this key, if the last of them has failed to connect since. `failures`
    /// counts the failed connects of a host now.
    pub fn tried_and_failed(
        &self,
        party: usize,
        hash: u64,
        failures: impl FnOnce(Host) -> u64,
    ) -> Tried {
        let last = self.last(party, hash);
        let failed = last.filter(|last| failures(last.last) > last.failures);
        failed.map_or_else(Tried::default, |last| last.tried)
    }

    /// Remembers that a party is sent to a host with this many failed connects, after the hosts that it has tried.
    #[inline]
    pub fn note(&mut self, party: usize, hash: u64, tried: Tried, host: Host, failures: u64) {
        if let Some(last) = self.0.get_mut(place(party)) {
            *last = Attempt {
                party,
                hash,
                tried: tried.and(host),
                last: host,
                failures,
            };
        }
    }

    /// Forgets all, as the places of hosts have changed.
    pub fn forget(&mut self) {
        self.0.fill(Attempt::default());
    }
}

/// Parties are addresses of objects, whose low bits are equal.
fn place(party: usize) -> usize {
    ((party >> 6) ^ (party >> 15)) & (REMEMBERED - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTY: usize = 0x7f00_1234_5640;

    fn tried(attempts: &Attempts, party: usize, hash: u64, failures: u64) -> Tried {
        attempts.tried_and_failed(party, hash, |_| failures)
    }

    #[test]
    fn a_party_tries_again_if_its_host_failed_to_connect() {
        let mut attempts = Attempts::default();
        assert_eq!(tried(&attempts, PARTY, 5, 9).count(), 0);
        attempts.note(PARTY, 5, Tried::default(), (0, 2), 10);
        let again = tried(&attempts, PARTY, 5, 10);
        assert_eq!(
            again.count(),
            0,
            "it connected, and asks for something else"
        );
        let again = tried(&attempts, PARTY, 5, 11);
        assert!(again.count() == 1 && again.has((0, 2)) && !again.has((1, 2)));
        assert_eq!(tried(&attempts, PARTY, 6, 11).count(), 0, "another key");
        assert_eq!(
            tried(&attempts, PARTY + 64, 5, 11).count(),
            0,
            "another party"
        );
        attempts.note(PARTY, 5, again, (0, 0), 3);
        assert_eq!(tried(&attempts, PARTY, 5, 4).count(), 2);
        attempts.forget();
        assert_eq!(tried(&attempts, PARTY, 5, 9).count(), 0);
    }

    #[test]
    fn of_many_hosts_the_latest_are_remembered() {
        let mut attempts = Attempts::default();
        for at in 0..9 {
            let before = tried(&attempts, PARTY, 5, 1);
            assert_eq!(before.count(), at.min(TRIED_MAX));
            assert!(!before.has((0, at)));
            attempts.note(PARTY, 5, before, (0, at), 0);
        }
        let all = tried(&attempts, PARTY, 5, 1);
        assert!(all.has((0, 8)) && all.has((0, 2)) && !all.has((0, 1)));
    }
}
