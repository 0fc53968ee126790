//! The rate limit of log lines of a kind: a number a second, half of them for one cause.
//!
//! Invariant: neither many filters nor one hostile client can fill a disk with log lines, and the next line of the
//! kind says how many were left out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Admits lines.
#[derive(Debug)]
pub(crate) struct Pace {
    lines_max: u64,
    second: Mutex<Second>,
}

#[derive(Debug, Default)]
struct Second {
    /// Since the Unix epoch.
    number: u64,
    lines: u64,
    /// By cause; no more entries than lines.
    by: HashMap<String, u64>,
    left_out: u64,
}

impl Pace {
    /// At most `lines_max` lines a second.
    pub(crate) fn new(lines_max: u64) -> Self {
        Self {
            lines_max,
            second: Mutex::default(),
        }
    }

    /// Whether a line that this cause brings about may be written; otherwise it counts as left out.
    pub(crate) fn admits(&self, by: &str, now_ms: u64) -> bool {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        second.begin(now_ms);
        let own = second.by.get(by).copied().unwrap_or(0);
        if second.lines >= self.lines_max || own >= self.lines_max.div_ceil(2) {
            second.left_out = second.left_out.saturating_add(1);
            return false;
        }
        second.lines += 1;
        second.by.insert(by.to_owned(), own + 1);
        true
    }

    /// How many lines were left out, once their second is over.
    pub(crate) fn left_out(&self, now_ms: u64) -> Option<u64> {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if second.left_out == 0 || second.number == now_ms / 1_000 {
            return None;
        }
        Some(std::mem::take(&mut second.left_out))
    }
}

impl Second {
    fn begin(&mut self, now_ms: u64) {
        let number = now_ms / 1_000;
        if self.number != number {
            self.number = number;
            self.lines = 0;
            self.by.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_lines_and_one_cause_half_of_them() {
        let pace = Pace::new(4);
        let admitted = |by: &str, now_ms| (0..10).filter(|_| pace.admits(by, now_ms)).count();
        assert_eq!(admitted("hostile", 1_000), 2);
        assert_eq!(admitted("other", 1_500), 2);
        assert_eq!(admitted("third", 1_999), 0);
        assert_eq!(admitted("hostile", 2_000), 2);
    }

    #[test]
    fn what_was_left_out_is_told_once_its_second_is_over() {
        let pace = Pace::new(1);
        assert!(pace.admits("a", 1_000));
        assert_eq!(pace.left_out(9_000), None);
        assert!(!pace.admits("a", 1_001) && !pace.admits("b", 1_002));
        assert_eq!(pace.left_out(1_999), None);
        assert_eq!(pace.left_out(2_000), Some(2));
        assert_eq!(pace.left_out(2_001), None);
    }
}
