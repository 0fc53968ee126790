//! The log: which lines, in which form, and what a line shows of a field.
//!
//! Invariant: text from a client, a peer or a server is one part of one line, and never a long one. So
//! no sender forges a line, and no line is lost among the bytes of another.

mod json;
pub(crate) mod pace;
mod start;

use std::fmt;

pub(crate) use start::{say, start};
use tracing::field::Field;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// Most characters of a field.
const CHARS_MAX: usize = 1_000;

/// Shows the fields of an event.
fn fields() -> impl for<'a> FormatFields<'a> + 'static {
    use tracing_subscriber::field::MakeExt as _;
    debug_fn(
        |writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
            let text = one_line(&format!("{value:?}"));
            match field.name() {
                "message" => write!(writer, "{text}"),
                name => write!(writer, "{name}={text}"),
            }
        },
    )
    .delimited(" ")
}

/// A text in one line, and cut.
pub(crate) fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(CHARS_MAX));
    for (index, character) in text.chars().enumerate() {
        if index == CHARS_MAX {
            shown.push('…');
            break;
        }
        // Also characters that change the direction of what follows, and invisible ones.
        let is_hidden = matches!(
            character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{180e}'
                | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        );
        match character.is_control() || is_hidden {
            true => shown.extend(character.escape_unicode()),
            false => shown.push(character),
        }
    }
    shown
}

/// Libraries whose debug lines show what is sent, headers with tokens and commands with passwords included. They are
/// shown only if the log filter names the library.
const TALKATIVE: [&str; 6] = ["h2", "hyper", "hyper_util", "redis", "rustls", "tonic"];

/// The filter of the settings. It silences the broker client, which logs each lost connection several times; the
/// driver logs it once.
fn filter(asked: &str) -> EnvFilter {
    let mut filter = asked.to_owned();
    if !asked.contains("lapin") {
        filter.push_str(",lapin=off,io_loop=off");
    }
    for name in TALKATIVE {
        let is_named = asked
            .split(',')
            .any(|part| part.split('=').next().map(str::trim) == Some(name));
        if !is_named {
            // Any client can cause their warnings.
            filter.push_str(&format!(",{name}=error"));
        }
    }
    EnvFilter::new(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_show_what_is_sent_are_quiet_unless_they_are_named() {
        let of = |asked| filter(asked).to_string();
        assert!(of("trace").contains("h2=error") && of("trace").contains("redis=error"));
        let named = of("info,h2=trace");
        assert!(
            named.contains("h2=trace") && !named.contains("h2=error"),
            "{named}"
        );
    }

    #[test]
    fn a_text_stays_in_its_line_and_in_its_length() {
        let forged = "no\n2026-01-01T00:00:00Z ERROR all is lost\r\x1b[31m\u{202e}";
        let text = one_line(forged);
        assert!(!text.contains(['\n', '\r', '\x1b', '\u{202e}']), "{text}");
        assert!(text.starts_with("no\\u{a}2026"), "{text}");
        assert_eq!(one_line(&"x".repeat(2_000)).chars().count(), CHARS_MAX + 1);
        assert_eq!(one_line("plain é text"), "plain é text");
    }
}
