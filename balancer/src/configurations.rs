//! The configurations of one service in a process: those of listeners with other settings, and those
//! that Envoy has replaced and keeps until their connections have ended, ten minutes by default.
//!
//! One configuration reports for the process: the one that was loaded last. When a listener goes back
//! to settings that it had before, Envoy wakes their VMs and loads nothing. Only connections tell
//! then: those of a replaced configuration get older, and every new one comes to the configuration in
//! force. Envoy numbers the connections of a process in the order of their arrival.

use crate::stored::stored;

/// A configuration that its VMs have not named for this long is gone.
const GONE_MS: u64 = 15_000;
/// A configuration without a new connection for this long gives way to one that has them.
const QUIET_MS: u64 = 5_000;
/// That time doubles each time that reports go back, up to this: two listeners with few connections
/// would take turns.
const QUIET_MS_MAX: u64 = 300_000;
/// After so long without a return it is short again.
const RETURNS_KEPT_MS: u64 = 3_600_000;
/// A configuration that has had no connection yet gives way after this time. Its clients may have
/// connections to the configuration that it replaced, which proves nothing.
const UNUSED_MS: u64 = 60_000;
/// Envoy gives connections of HTTP/3 a hash of 64 bits as number.
const CONNECTION_MAX: u64 = 1 << 40;
/// Instances that only other configurations know are reported for so long after their last request.
const USED_MS: u64 = 30_000;

/// A connection's number in the order of arrival, by Envoy's number of it; `None` if that one does
/// not tell the order.
pub fn in_order(connection: u64) -> Option<u64> {
    (connection < CONNECTION_MAX).then_some(connection)
}

/// The configurations that have VMs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configurations {
    all: Vec<Configuration>,
    /// The one that reports.
    reporting: u64,
    /// How often one reported that had done so before.
    returns: u32,
    returned_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Configuration {
    /// A hash of the settings.
    id: u64,
    /// When a VM last named it, in milliseconds since the Unix epoch.
    named_ms: u64,
    /// Its newest connection, by Envoy's number; 0 if none is known.
    connection: u64,
    /// When that one was seen first, or the configuration itself.
    connected_ms: u64,
    has_reported: bool,
}

stored!(Configurations {
    all,
    reporting,
    returns,
    returned_ms
});
stored!(Configuration {
    id,
    named_ms,
    connection,
    connected_ms,
    has_reported
});

impl Configurations {
    /// Names a configuration and its newest connection, and the configuration that reports, and
    /// forgets those that are gone.
    pub fn name(&mut self, id: u64, connection: u64, reporting: u64, now_ms: u64) {
        self.all
            .retain(|one| one.named_ms.abs_diff(now_ms) < GONE_MS);
        if let Some(mine) = self.all.iter_mut().find(|one| one.id == id) {
            mine.named_ms = now_ms;
            if connection > mine.connection {
                mine.connection = connection;
                mine.connected_ms = now_ms;
            }
        } else {
            self.all.push(Configuration {
                id,
                named_ms: now_ms,
                connection,
                connected_ms: now_ms,
                has_reported: false,
            });
        }
        self.see_reporting(reporting, now_ms);
    }

    fn see_reporting(&mut self, reporting: u64, now_ms: u64) {
        if self.returned_ms.abs_diff(now_ms) >= RETURNS_KEPT_MS {
            self.returns = 0;
        }
        let changes = self.reporting != reporting;
        let Some(one) = self.all.iter_mut().find(|one| one.id == reporting) else {
            return;
        };
        self.reporting = reporting;
        if std::mem::replace(&mut one.has_reported, true) && changes {
            self.returns = self.returns.saturating_add(1);
            self.returned_ms = now_ms;
        }
    }

    /// The others.
    pub fn others(&self, id: u64) -> impl Iterator<Item = u64> {
        let ids = self.all.iter().map(|one| one.id);
        ids.filter(move |other| *other != id)
    }

    /// Whether this configuration has a newer connection than the one that reports, which has had no
    /// new one for a while.
    pub fn replaces(&self, id: u64, reporting: u64, now_ms: u64) -> bool {
        let of = |id: u64| self.all.iter().find(|one| one.id == id);
        let (Some(mine), Some(reporting)) = (of(id), of(reporting)) else {
            // A configuration that is gone loses its lease.
            return false;
        };
        // Clients may keep a connection for long: it need not be of the last seconds.
        let is_newer =
            mine.connection > reporting.connection && mine.connected_ms >= reporting.connected_ms;
        is_newer && now_ms.abs_diff(reporting.connected_ms) >= self.patience_ms(reporting)
    }

    /// How long the configuration that reports may be without a new connection.
    fn patience_ms(&self, reporting: &Configuration) -> u64 {
        let factor = 1u64.checked_shl(self.returns).unwrap_or(u64::MAX);
        let patience_ms = QUIET_MS.saturating_mul(factor).min(QUIET_MS_MAX);
        match reporting.connection {
            0 => patience_ms.max(UNUSED_MS),
            _ => patience_ms,
        }
    }
}

/// Whether another configuration is in use, by the load of the instances that only it knows. Envoy
/// keeps a replaced configuration for minutes, whose instances may be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    calls: u64,
    used_ms: u64,
}

impl Usage {
    /// In use from now on.
    pub fn new(now_ms: u64) -> Self {
        Self {
            calls: 0,
            used_ms: now_ms,
        }
    }

    /// Whether it is in use, with this load of its instances in all.
    pub fn look(&mut self, calls: u64, in_flight: u64, now_ms: u64) -> bool {
        let more = std::mem::replace(&mut self.calls, calls) != calls;
        if more || in_flight > 0 {
            self.used_ms = now_ms;
        }
        now_ms.abs_diff(self.used_ms) < USED_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u64 = 1;
    const B: u64 = 2;

    #[test]
    fn a_configuration_that_comes_back_replaces_one_that_gets_no_new_connections() {
        let mut all = Configurations::default();
        all.name(A, 10, A, 0);
        all.name(B, 20, B, 1_000);
        // The listener has A again.
        for (now_ms, connection, replaces) in [
            (2_000, 21, false),
            (5_000, 25, false),
            (5_999, 26, false),
            (6_000, 27, true),
        ] {
            all.name(B, 20, B, now_ms);
            all.name(A, connection, B, now_ms);
            assert_eq!(all.replaces(A, B, now_ms), replaces, "{now_ms}");
            assert!(!all.replaces(B, A, now_ms));
        }
    }

    #[test]
    fn old_connections_prove_nothing() {
        let mut all = Configurations::default();
        all.name(A, 10, A, 0);
        all.name(B, 20, B, 0);
        // It had them before, and its workers serve them one after the other.
        all.name(A, 15, B, 9_000);
        all.name(B, 20, B, 9_000);
        assert!(!all.replaces(A, B, 9_000));
    }

    #[test]
    fn two_that_both_have_new_connections_do_not_take_turns() {
        let mut all = Configurations::default();
        for second in 0..100 {
            all.name(A, 2 * second, B, second * 1_000);
            all.name(B, 2 * second + 1, B, second * 1_000);
            assert!(!all.replaces(A, B, second * 1_000));
            assert!(!all.replaces(B, A, second * 1_000));
        }
    }

    #[test]
    fn one_without_vms_is_gone() {
        let mut all = Configurations::default();
        all.name(A, 1, A, 0);
        all.name(B, 2, A, 14_000);
        assert!(all.others(B).eq([A]));
        all.name(B, 2, A, 15_000);
        assert_eq!(all.others(B).count(), 0);
        assert!(!all.replaces(B, A, 15_000));
    }

    #[test]
    fn two_with_few_connections_soon_stop_taking_turns() {
        let mut all = Configurations::default();
        let (mut reporting, mut changes) = (B, 0);
        let (mut of_a, mut of_b) = (1, 2);
        for second in 0..3_600 {
            let now_ms = second * 1_000;
            match second % 20 {
                0 => of_a = 10 + second,
                10 => of_b = 10 + second,
                _ => {}
            }
            all.name(A, of_a, reporting, now_ms);
            all.name(B, of_b, reporting, now_ms);
            for other in [A, B] {
                if other != reporting && all.replaces(other, reporting, now_ms) {
                    reporting = other;
                    changes += 1;
                }
            }
        }
        assert!((1..=5).contains(&changes), "{changes}");
    }

    #[test]
    fn returns_are_forgotten_and_never_ask_for_more_than_the_limit() {
        let mut all = Configurations::default();
        let mut now_ms = 0;
        for turn in 0..200 {
            now_ms += 1_000;
            let reporting = if turn % 2 == 0 { A } else { B };
            all.name(A, 1, reporting, now_ms);
            all.name(B, 2, reporting, now_ms);
        }
        assert_eq!(all.patience_ms(&all.all[0]), QUIET_MS_MAX);
        now_ms += RETURNS_KEPT_MS;
        all.name(A, 3, B, now_ms);
        assert_eq!(all.patience_ms(&all.all[0]), QUIET_MS);
    }

    #[test]
    fn old_connections_to_a_replaced_configuration_do_not_bring_it_back_soon() {
        let mut all = Configurations::default();
        all.name(A, 10, A, 0);
        // B replaces A, and all clients keep their connections. One of them a second is seen.
        for second in 0..60 {
            let now_ms = 1_000 + second * 1_000;
            all.name(B, 0, B, now_ms);
            all.name(A, 11 + second, B, now_ms);
            assert!(!all.replaces(A, B, now_ms), "{second}");
        }
        // B may be a listener that nobody uses.
        all.name(B, 0, B, 61_000);
        all.name(A, 71, B, 61_000);
        assert!(all.replaces(A, B, 61_000));
    }

    #[test]
    fn one_new_connection_that_its_client_keeps_is_enough() {
        let mut all = Configurations::default();
        all.name(B, 20, B, 0);
        all.name(A, 21, B, 1_000);
        all.returns = 4;
        all.returned_ms = 1_000;
        for second in 1..80 {
            all.name(B, 20, B, second * 1_000);
            all.name(A, 21, B, second * 1_000);
            assert!(!all.replaces(A, B, second * 1_000), "{second}");
        }
        assert!(all.replaces(A, B, 80_000));
    }

    #[test]
    fn a_hash_is_no_number() {
        assert_eq!(in_order(7), Some(7));
        assert_eq!(in_order(0x9e37_79b9_7f4a_7c15), None);
    }

    #[test]
    fn a_configuration_is_in_use_for_a_while_after_its_last_request() {
        let mut usage = Usage::new(0);
        assert!(usage.look(5, 0, 20_000), "calls");
        assert!(usage.look(5, 1, 40_000), "a request in flight");
        assert!(usage.look(5, 0, 69_999));
        assert!(!usage.look(5, 0, 70_000));
        assert!(usage.look(6, 0, 80_000), "used again");
    }
}
