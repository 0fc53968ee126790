//! What Envoy's configuration says of a cluster, as far as it was answered, and when it is asked for again.

use super::cluster::Cluster;
use super::endpoints::Endpoints;

/// Time after which the configuration is asked for again, whatever the page shows.
pub const CONFIG_MS: u64 = 10_000;
/// Time after a question without an answer; each further one doubles it, up to [`CONFIG_MS`].
const AGAIN_MS: u64 = 500;
/// Failed looks at the configuration after which what was never answered is taken for hidden.
const FAILED_MAX: u32 = 3;

/// The last answers.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub(super) endpoints: Last<Endpoints>,
    pub(super) cluster: Last<Cluster>,
    /// `None` if it is due at once.
    due_ms: Option<u64>,
    /// Whether all of it was answered once.
    is_answered: bool,
    /// Looks in a row at which something was not answered.
    failed: u32,
    /// Whether that is so of this look.
    fails: bool,
}

impl Config {
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.due_ms
            .is_none_or(|due| now_ms >= due || due > now_ms.saturating_add(CONFIG_MS))
    }

    /// Takes that there was no answer, or one of another form. Returns whether the look goes on all the
    /// same: what stays unreadable must not hide the rest.
    pub(super) fn has_failed(&mut self, now_ms: u64) -> bool {
        if !self.fails {
            self.fails = true;
            self.failed = self.failed.saturating_add(1);
        }
        let pause_ms = (AGAIN_MS << self.failed.min(8)).min(CONFIG_MS);
        self.due_ms = Some(now_ms.saturating_add(pause_ms));
        self.failed >= FAILED_MAX
    }

    /// Takes that the last question of a look was answered.
    pub(super) fn is_over(&mut self, now_ms: u64) {
        self.is_answered = true;
        if !std::mem::take(&mut self.fails) {
            self.failed = 0;
            self.due_ms = Some(now_ms.saturating_add(CONFIG_MS));
        }
    }

    /// Begins to ask.
    pub(super) fn begin(&mut self) {
        self.fails = false;
    }

    /// Whether nobody knows yet whether Envoy shows it.
    pub(super) fn is_awaited(&self) -> bool {
        !self.is_answered && (1..FAILED_MAX).contains(&self.failed)
    }
}

/// The last answer to one question.
#[derive(Debug)]
pub(super) struct Last<T> {
    known: Option<T>,
    is_shown: bool,
}

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self {
            known: None,
            is_shown: false,
        }
    }
}

impl<T: PartialEq> Last<T> {
    /// `None` if Envoy does not show it.
    pub(super) fn shown(&self) -> Option<&T> {
        self.known.as_ref().filter(|_| self.is_shown)
    }

    /// Takes an answer; `None` if Envoy does not show it. Returns whether it differs from what was known
    /// last. An answer that comes back after a refusal is no change.
    pub(super) fn take(&mut self, now: Option<T>) -> bool {
        self.is_shown = now.is_some();
        let Some(now) = now else {
            return false;
        };
        let differs = self.known.as_ref().is_some_and(|known| *known != now);
        self.known = Some(now);
        differs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_answered_is_asked_for_soon_and_then_less_often() {
        let mut config = Config::default();
        assert!(config.is_due(0) && !config.is_awaited());
        let mut now_ms = 0;
        for (pause_ms, goes_on) in [
            (1_000, false),
            (2_000, false),
            (4_000, true),
            (8_000, true),
            (10_000, true),
        ] {
            config.begin();
            assert_eq!(config.has_failed(now_ms), goes_on);
            assert_eq!(config.is_awaited(), !goes_on, "{pause_ms}");
            assert!(!config.is_due(now_ms + pause_ms - 1));
            now_ms += pause_ms;
            assert!(config.is_due(now_ms));
        }
        config.begin();
        config.is_over(now_ms);
        assert!(!config.is_due(now_ms + CONFIG_MS - 1) && config.is_due(now_ms + CONFIG_MS));
        assert!(config.is_due(0), "the clock was set back");
        config.begin();
        config.has_failed(now_ms);
        assert!(!config.is_awaited(), "it is known already");
    }

    #[test]
    fn an_answer_is_compared_with_the_last_one_that_was_shown() {
        let mut last = Last::default();
        assert!(!last.take(Some(1)), "the first");
        assert!(!last.take(None));
        assert_eq!(last.shown(), None);
        assert!(!last.take(Some(1)));
        assert!(last.take(Some(2)));
        assert_eq!(last.shown(), Some(&2));
    }
}
