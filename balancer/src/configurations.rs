//! The configurations of one service in a process: those of listeners with other settings, and those
//! that Envoy has replaced and keeps until their connections have ended, ten minutes by default.
//!
//! One configuration reports for the process: the one that was loaded last. When a listener goes back
//! to settings that it had before, Envoy wakes their VMs and loads nothing. Only connections tell
//! then: those of a replaced configuration get older, and every new one comes to the configuration in
//! force. Envoy numbers the connections of a process in the order of their arrival.

use crate::stored::stored;

/// A configuration that its VMs have not named for so long is gone.
const GONE_MS: u64 = 15_000;
/// A configuration without a new connection for so long gives way to one that has them.
const QUIET_MS: u64 = 5_000;

/// Those that have VMs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configurations {
    all: Vec<Configuration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Configuration {
    /// A hash of the settings.
    id: u64,
    /// When a VM last named it, in milliseconds since the Unix epoch.
    named_ms: u64,
    /// Its newest connection, by Envoy's number.
    connection: u64,
    /// When that one was seen first.
    connected_ms: u64,
}

stored!(Configurations { all });
stored!(Configuration {
    id,
    named_ms,
    connection,
    connected_ms
});

impl Configurations {
    /// Names a configuration and its newest connection, and forgets those that are gone.
    pub fn name(&mut self, id: u64, connection: u64, now_ms: u64) {
        self.all
            .retain(|one| one.named_ms.abs_diff(now_ms) < GONE_MS);
        let Some(mine) = self.all.iter_mut().find(|one| one.id == id) else {
            self.all.push(Configuration {
                id,
                named_ms: now_ms,
                connection,
                connected_ms: now_ms,
            });
            return;
        };
        mine.named_ms = now_ms;
        if connection > mine.connection {
            mine.connection = connection;
            mine.connected_ms = now_ms;
        }
    }

    /// The others.
    pub fn others(&self, id: u64) -> impl Iterator<Item = u64> {
        let ids = self.all.iter().map(|one| one.id);
        ids.filter(move |other| *other != id)
    }

    /// Whether new connections come to this configuration, and none to the one that reports.
    pub fn replaces(&self, id: u64, reporting: u64, now_ms: u64) -> bool {
        let of = |id: u64| self.all.iter().find(|one| one.id == id);
        let (Some(mine), Some(reporting)) = (of(id), of(reporting)) else {
            // One that is gone loses its lease.
            return false;
        };
        let is_quiet = |one: &Configuration| now_ms.abs_diff(one.connected_ms) >= QUIET_MS;
        mine.connection > reporting.connection && !is_quiet(mine) && is_quiet(reporting)
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
        all.name(A, 10, 0);
        all.name(B, 20, 1_000);
        // The listener has A again.
        for (now_ms, connection, replaces) in [
            (2_000, 21, false),
            (5_000, 25, false),
            (5_999, 26, false),
            (6_000, 27, true),
        ] {
            all.name(B, 20, now_ms);
            all.name(A, connection, now_ms);
            assert_eq!(all.replaces(A, B, now_ms), replaces, "{now_ms}");
            assert!(!all.replaces(B, A, now_ms));
        }
    }

    #[test]
    fn old_connections_prove_nothing() {
        let mut all = Configurations::default();
        all.name(A, 10, 0);
        all.name(B, 20, 0);
        // It had them before, and its workers serve them one after the other.
        all.name(A, 15, 9_000);
        all.name(B, 20, 9_000);
        assert!(!all.replaces(A, B, 9_000));
    }

    #[test]
    fn two_that_both_have_new_connections_do_not_take_turns() {
        let mut all = Configurations::default();
        for second in 0..100 {
            all.name(A, 2 * second, second * 1_000);
            all.name(B, 2 * second + 1, second * 1_000);
            assert!(!all.replaces(A, B, second * 1_000));
            assert!(!all.replaces(B, A, second * 1_000));
        }
    }

    #[test]
    fn one_without_vms_is_gone() {
        let mut all = Configurations::default();
        all.name(A, 1, 0);
        all.name(B, 2, 14_000);
        assert!(all.others(B).eq([A]));
        all.name(B, 2, 15_000);
        assert_eq!(all.others(B).count(), 0);
        assert!(!all.replaces(B, A, 15_000));
    }
}
