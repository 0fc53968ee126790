//! A finding as it is shown: the fault, its consequence, and how to mend it. No text of a configuration or a server
//! can move a terminal's cursor or pose as another line.

use std::cmp::Reverse;

use serde::Serialize;

use super::code::{Code, Severity};

/// Characters of a text that are shown.
const CHARS_MAX: usize = 400;

/// Something that is wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub code: Code,
    pub severity: Severity,
    /// The file or address in which it was found.
    pub source: String,
    pub path: String,
    /// The wrong configuration or state at that place.
    pub seen: String,
    pub follows: &'static str,
    /// YAML to write, or a command to run.
    pub mend: String,
    /// The section of the documentation.
    pub page: String,
}

impl Finding {
    /// A finding; [`Finding::of`] adds its source.
    pub(super) fn new(code: Code, path: &str, seen: &str, mend: &str) -> Self {
        // Only a mend has lines of its own.
        let lines: Vec<String> = mend.lines().map(shown).collect();
        Self {
            code,
            severity: code.severity(),
            source: String::new(),
            path: shown(path),
            seen: shown(seen),
            follows: code.follows(),
            mend: lines.join("\n"),
            page: format!("docs/doctor.md#{}", code.as_str().to_ascii_lowercase()),
        }
    }

    /// The gravest first, then by code and place.
    pub(super) fn order(&self) -> (Reverse<Severity>, Code, &str, &str) {
        (Reverse(self.severity), self.code, &self.path, &self.seen)
    }

    /// The same, found in this file or at this address.
    #[must_use]
    pub(super) fn of(self, source: &str) -> Self {
        Self {
            source: shown(source),
            ..self
        }
    }
}

/// A text of a configuration or a server on one line, shortened.
pub(crate) fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let plain = |char: char| if hides(char) { ' ' } else { char };
    let mut kept: String = chars.by_ref().take(CHARS_MAX).map(plain).collect();
    if chars.next().is_some() {
        kept.push('…');
    }
    kept
}

/// Whether a terminal may do something else than show it: a control character, or one that changes the direction of
/// writing.
fn hides(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
