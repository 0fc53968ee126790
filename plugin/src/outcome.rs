//! What an answer says of the instance that it came from.

use crate::headers::Headers;

/// What the filter reads of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Empty if it has none.
    pub status: Vec<u8>,
    /// How often Envoy tried, if the answer says so.
    pub attempts: Option<u64>,
}

impl Answer {
    /// Of an Envoy that writes the number of attempts into its answers
    /// (`include_attempt_count_in_response`).
    pub fn of(headers: &Headers) -> Self {
        let attempts = headers.values("x-envoy-attempt-count").next();
        Self {
            status: headers
                .values(":status")
                .next()
                .unwrap_or_default()
                .to_vec(),
            attempts: attempts
                .and_then(|digits| str::from_utf8(digits).ok())
                .and_then(|digits| digits.parse().ok()),
        }
    }
}

/// Whether an answer speaks for or against its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Success,
    /// A gateway failure: it did not answer, or answered that it cannot.
    Failure,
    /// It had no part in it.
    Neither,
}

/// Judges by the status and by Envoy's response flags (`response.flags`, asked only for the
/// statuses of a gateway).
pub fn outcome(status: &[u8], flags: impl Fn() -> u64) -> Outcome {
    /// Upstream request timeout, remote reset, connection failure, connection termination.
    const BY_INSTANCE: u64 = 0x4 | 0x10 | 0x20 | 0x40;
    if !matches!(status, b"502" | b"503" | b"504") {
        return Outcome::Success;
    }
    match flags() {
        // No flag: the instance itself said so.
        0 => Outcome::Failure,
        flags if flags & BY_INSTANCE != 0 => Outcome::Failure,
        // Envoy's own doing: a circuit breaker, a fault filter, a client that left.
        _ => Outcome::Neither,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::tests::headers;

    #[test]
    fn the_number_of_attempts_is_read_if_it_is_one() {
        for (count, attempts) in [("3", Some(3)), ("", None), ("-1", None), ("many", None)] {
            let list: [(&str, &[u8]); 2] = [
                (":status", b"200"),
                ("x-envoy-attempt-count", count.as_bytes()),
            ];
            let status = b"200".to_vec();
            assert_eq!(Answer::of(&headers(&list)), Answer { status, attempts });
        }
        let (status, attempts) = (Vec::new(), None);
        assert_eq!(Answer::of(&Headers::default()), Answer { status, attempts });
    }

    #[test]
    fn a_gateway_status_is_held_against_the_instance_unless_envoy_made_it() {
        const OVERFLOW: u64 = 0x80;
        const CONNECTION_FAILURE: u64 = 0x20;
        const RETRY_LIMIT: u64 = 0x8000;
        let judge = |status: &str, flags| outcome(status.as_bytes(), || flags);
        assert_eq!(judge("503", 0), Outcome::Failure);
        assert_eq!(judge("504", 0x4), Outcome::Failure);
        assert_eq!(
            judge("503", CONNECTION_FAILURE | RETRY_LIMIT),
            Outcome::Failure
        );
        assert_eq!(judge("503", OVERFLOW), Outcome::Neither);
        for works in ["200", "404", "500", "429", ""] {
            assert_eq!(judge(works, 0), Outcome::Success, "{works}");
        }
    }

    #[test]
    fn flags_are_not_asked_for_where_they_do_not_matter() {
        let asked = || unreachable!("an answer of 200 needs no flags");
        assert_eq!(outcome(b"200", asked), Outcome::Success);
    }
}
