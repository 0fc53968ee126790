//! How often Envoy is asked for statuses.
//!
//! Envoy matches each of its stats against the filter of the question, on its main thread. So the pause
//! after an answer is many times as long as the answer took; and it doubles while the answers show that
//! nothing failed, as of an instance that answers only 500. A host that begins to fail ends that pause.

/// The pause in times of what the answer took.
const SHARE: u64 = 20;
/// Answers in a row that tell of no failure, and after which the pauses begin to grow. A first answer may
/// lack one to compare with.
const FREE: u32 = 3;
const PAUSE_MS_MIN: u64 = 1_000;
const PAUSE_MS_MAX: u64 = 60_000;

/// When to ask next.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Before this time the cost of the last answer forbids it.
    costs_until_ms: u64,
    due_ms: u64,
    /// Answers in a row that told of no failure.
    quiet: u32,
    /// The hosts that failed, or seemed to, each with the last time.
    failing: Vec<(u64, u64)>,
}

impl Pace {
    /// Whether to ask, as these hosts fail or seem to.
    pub(super) fn is_due(&mut self, undecided: &[(u64, u64)], now_ms: u64) -> bool {
        self.failing
            .retain(|(_, seen_ms)| now_ms.abs_diff(*seen_ms) <= PAUSE_MS_MAX);
        for (host, _) in undecided {
            match self.failing.iter_mut().find(|(known, _)| known == host) {
                Some((_, seen_ms)) => *seen_ms = now_ms,
                None => {
                    self.failing.push((*host, now_ms));
                    self.quiet = 0;
                    self.due_ms = self.costs_until_ms;
                }
            }
        }
        // A clock that was set back ends a pause.
        let is_over = now_ms >= self.due_ms || self.due_ms - now_ms > PAUSE_MS_MAX;
        !undecided.is_empty() && is_over
    }

    /// Takes that there was an answer, or none, and whether it told of failures.
    pub(super) fn asked(&mut self, told: bool, took_ms: u64, now_ms: u64) {
        self.quiet = if told {
            0
        } else {
            self.quiet.saturating_add(1)
        };
        let cost_ms = took_ms.saturating_mul(SHARE).min(PAUSE_MS_MAX);
        self.costs_until_ms = now_ms.saturating_add(cost_ms);
        let doubled = self.quiet.checked_sub(FREE + 1).map(|times| times.min(16));
        let pause_ms = doubled.map_or(0, |times| (PAUSE_MS_MIN << times).min(PAUSE_MS_MAX));
        self.due_ms = now_ms.saturating_add(pause_ms.max(cost_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times at which it asks within five minutes, looking each second.
    fn asked(pace: &mut Pace, from_s: u64, failing: &[(u64, u64)], told: bool) -> Vec<u64> {
        let seconds = (from_s..from_s + 300).filter(|second| {
            let now_ms = second * 1_000;
            let is_due = pace.is_due(failing, now_ms);
            if is_due {
                pace.asked(told, 3, now_ms);
            }
            is_due
        });
        seconds.map(|second| second - from_s).collect()
    }

    #[test]
    fn an_instance_that_fails_for_nobody_is_asked_about_ever_less_often() {
        let mut pace = Pace::default();
        assert!(asked(&mut pace, 0, &[], false).is_empty());
        let quiet = asked(&mut pace, 0, &[(1, 9)], false);
        assert_eq!(quiet, [0, 1, 2, 3, 4, 6, 10, 18, 34, 66, 126, 186, 246]);
        let more = asked(&mut pace, 300, &[(1, 9)], false);
        assert_eq!(more, [6, 66, 126, 186, 246]);
        let new = asked(&mut pace, 600, &[(1, 9), (2, 9)], false);
        assert_eq!(new[..6], [0, 1, 2, 3, 4, 6], "a host that begins to fail");
        assert_eq!(
            asked(&mut pace, 900, &[(1, 9)], true).len(),
            294,
            "it fails"
        );
    }

    #[test]
    fn an_answer_that_took_long_is_not_asked_for_soon_whoever_fails() {
        let mut pace = Pace::default();
        assert!(pace.is_due(&[(1, 1)], 0));
        pace.asked(true, 500, 1_000);
        assert!(!pace.is_due(&[(1, 1), (2, 1)], 10_999));
        assert!(pace.is_due(&[(1, 1)], 11_000));
        pace.asked(false, u64::MAX, u64::MAX);
        assert!(pace.is_due(&[(1, 1)], 5), "the clock was set back");
    }
}
