//! A connection that is tried again → which try it is.
//!
//! `tcp_proxy` asks for a host once for each attempt, and does not say which attempt it is. It is another attempt
//! of the same connection if the same party asks again for the same key, and the host that it got has failed to
//! connect since. A party that asks again for another reason, as a proxy does that asks once for each of its
//! commands, finds its host without such a failure, and so stays with it.

/// How many connections are remembered, a power of two. One that falls out starts anew with its first candidate.
const REMEMBERED: usize = 128;

/// The latest attempts of one worker.
#[derive(Debug)]
pub(crate) struct Attempts(Box<[Attempt]>);

/// The latest attempt of a connection.
#[derive(Debug, Clone, Copy, Default)]
struct Attempt {
    party: usize,
    hash: u64,
    /// How many hosts it was sent to before.
    before: usize,
    /// The failed connects of its host, by Envoy's count, when it was sent there.
    failures: u64,
    /// Its host: the priority, and the place among all hosts of it.
    host: Host,
}

/// A priority, and a place among all of its hosts.
pub(crate) type Host = (u32, usize);

impl Default for Attempts {
    fn default() -> Self {
        Self(vec![Attempt::default(); REMEMBERED].into())
    }
}

impl Attempts {
    /// How many hosts this party tried before for this key. `failures` counts the failed connects of a host now.
    pub(crate) fn before(
        &self,
        party: usize,
        hash: u64,
        failures: impl FnOnce(Host) -> u64,
    ) -> usize {
        let last = self.0.get(place(party));
        let last = last.filter(|last| last.party == party && last.hash == hash);
        let again = last.filter(|last| failures(last.host) > last.failures);
        again.map_or(0, |last| last.before + 1)
    }

    /// Remembers that a party was sent to a host, after so many others.
    pub(crate) fn note(
        &mut self,
        party: usize,
        hash: u64,
        before: usize,
        host: Host,
        failures: u64,
    ) {
        if let Some(last) = self.0.get_mut(place(party)) {
            *last = Attempt {
                party,
                hash,
                before,
                failures,
                host,
            };
        }
    }

    /// Forgets all, as the places of hosts have changed.
    pub(crate) fn forget(&mut self) {
        self.0.fill(Attempt::default());
    }
}

/// Parties are addresses of objects, whose low bits are equal.
fn place(party: usize) -> usize {
    ((party >> 6) ^ (party >> 13)) & (REMEMBERED - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_another_one_if_its_host_failed_to_connect() {
        let mut attempts = Attempts::default();
        let party = 0x7f00_1234_5640;
        assert_eq!(attempts.before(party, 5, |_| unreachable!()), 0);
        attempts.note(party, 5, 0, (0, 2), 10);
        assert_eq!(attempts.before(party, 5, |(_, at)| [0, 0, 11][at]), 1);
        attempts.note(party, 5, 1, (0, 0), 3);
        assert_eq!(
            attempts.before(party, 5, |_| 3),
            0,
            "it connected, and asks for something else"
        );
        assert_eq!(attempts.before(party, 5, |_| 4), 2);
        assert_eq!(attempts.before(party, 6, |_| 4), 0, "another key");
        assert_eq!(attempts.before(party + 64, 5, |_| 4), 0, "another party");
        attempts.forget();
        assert_eq!(attempts.before(party, 5, |_| 4), 0);
    }
}
