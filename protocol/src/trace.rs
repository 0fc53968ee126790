//! The context of a trace, as it goes from program to program.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A span of a trace that a collector is to have, as W3C Trace Context writes it in the header `traceparent`:
/// `00-<32 hex digits: trace>-<16 hex digits: span>-<2 hex digits: flags>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent {
    trace: u128,
    span: u64,
    is_sampled: bool,
}

/// Why a text is not the context of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, the first two not all zero")]
pub struct InvalidTraceParent;

impl TraceParent {
    /// Bytes of its text.
    pub const BYTES: usize = 55;

    /// A span of a trace; `None` if one of them is zero, which names none.
    pub fn new(trace: u128, span: u64, is_sampled: bool) -> Option<Self> {
        (trace != 0 && span != 0).then_some(Self {
            trace,
            span,
            is_sampled,
        })
    }

    /// The trace.
    pub fn trace(&self) -> u128 {
        self.trace
    }

    /// The span of the trace.
    pub fn span(&self) -> u64 {
        self.span
    }

    /// Whether a collector is to have what the span caused.
    pub fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// Reads a field that may be absent. An invalid context is left out: a trace is not worth losing a message.
    ///
    /// # Errors
    /// Those of the format.
    pub fn if_valid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        deserializer.deserialize_any(Given)
    }
}

/// Reads whatever a message has where a context may be. What is no text is left out unread: it may be of any size.
struct Given;

impl<'de> Visitor<'de> for Given {
    type Value = Option<TraceParent>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.parse().ok())
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.is_sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        read(text).ok_or(InvalidTraceParent)
    }
}

/// A later version of the format may go on behind what this one has.
fn read(text: &str) -> Option<TraceParent> {
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2)?;
    let (trace, span) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?);
    let flags = hex(parts.next()?, 2)?;
    let goes_on = parts.next().is_some();
    if version == 0xff || (version == 0 && goes_on) {
        return None;
    }
    TraceParent::new(trace, u64::try_from(span).ok()?, flags & 1 == 1)
}

/// A number of `digits` digits, as the format has them: in lower case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_right = text.len() == digits && text.bytes().all(is_digit);
    is_right.then(|| u128::from_str_radix(text, 16).ok())?
}

impl TryFrom<String> for TraceParent {
    type Error = InvalidTraceParent;
    fn try_from(text: String) -> Result<Self, InvalidTraceParent> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(parent: TraceParent) -> String {
        parent.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_standard_is_read_and_written_alike() {
        let parent: TraceParent = TEXT.parse().unwrap();
        assert!(parent.is_sampled());
        assert_eq!(parent.span(), 0x00f0_67aa_0ba9_02b7);
        assert_eq!(parent.to_string(), TEXT);
        assert_eq!(TEXT.len(), TraceParent::BYTES);
    }

    #[test]
    fn a_later_version_may_go_on_and_flags_of_others_are_not_ours() {
        let later = TEXT.replacen("00", "cc", 1) + "-what-comes";
        assert_eq!(later.parse(), TEXT.parse::<TraceParent>());
        let unsampled: TraceParent = TEXT.replace("-01", "-02").parse().unwrap();
        assert!(!unsampled.is_sampled());
    }

    #[test]
    fn what_breaks_the_format_is_refused() {
        let zero = |digits: usize| "0".repeat(digits);
        for wrong in [
            String::new(),
            "00".to_owned(),
            TEXT.to_uppercase(),
            format!("{TEXT}-x"),
            TEXT.replacen("00", "ff", 1),
            TEXT.replacen("00", "+0", 1),
            TEXT.replace("00f067aa0ba902b7", &zero(16)),
            TEXT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &zero(32)),
            TEXT.replace("4bf9", "4bfé"),
            format!("{TEXT} "),
        ] {
            assert_eq!(
                wrong.parse::<TraceParent>(),
                Err(InvalidTraceParent),
                "{wrong:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_context_reads_back_as_written(trace in 1u128.., span in 1u64.., sampled: bool) {
            let written = TraceParent::new(trace, span, sampled).unwrap();
            prop_assert_eq!(written.to_string().parse(), Ok(written));
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            prop_assert!(text.len() >= TraceParent::BYTES || text.parse::<TraceParent>().is_err());
        }
    }
}
