//! What is set aside of a message: all of it counted, some of it named, in text that is safe to show.

use std::fmt::Display;

/// Characters that are kept of the name and of the reason of a record set aside.
const ASIDE_CHARS_MAX: usize = 256;
/// Most entries of a message that are named; the others are counted.
const NAMED_MAX: usize = 64;

/// A record that is set aside alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aside {
    /// The record's name, as far as the message has it.
    pub name: String,
    pub why: String,
}

/// All that is set aside of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asides {
    /// The first of them.
    pub named: Vec<Aside>,
    /// How many there are.
    pub count: u64,
}

impl Asides {
    pub(super) fn add(&mut self, name: impl Display, why: impl Display) {
        self.count = self.count.saturating_add(1);
        if self.named.len() < NAMED_MAX {
            self.named.push(Aside {
                name: shown(&name.to_string()),
                why: shown(&why.to_string()),
            });
        }
    }

    /// A list is longer than it may be: the entries after the first ones were not read.
    pub(super) fn over(&mut self, name: impl Display, max: usize, over: u64) {
        if over > 0 {
            let why = format!("{over} more than the {max} that are read");
            self.add(name, why);
        }
    }
}

/// Bounded text without characters that a terminal or a log would act on.
fn shown(text: &str) -> String {
    let escaped = text.chars().take(ASIDE_CHARS_MAX).flat_map(|letter| {
        let is_quote = matches!(letter, '"' | '\'' | '\\');
        let plain = is_quote.then_some(letter);
        let escaped = (!is_quote).then(|| letter.escape_debug());
        plain.into_iter().chain(escaped.into_iter().flatten())
    });
    escaped.take(ASIDE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_bounded_and_acts_on_no_terminal() {
        let mut aside = Asides::default();
        aside.add("d/\u{1b}[31m\n\u{202e}\"é", "x".repeat(9_000));
        let one = &aside.named[0];
        assert_eq!(one.name, "d/\\u{1b}[31m\\n\\u{202e}\"é");
        assert_eq!(one.why.len(), ASIDE_CHARS_MAX);
        for number in 0..1_000 {
            aside.add(number, "\u{0}".repeat(9_000));
        }
        assert_eq!((aside.named.len(), aside.count), (NAMED_MAX, 1_001));
        assert!(aside.named[1].why.len() <= ASIDE_CHARS_MAX);
    }
}
