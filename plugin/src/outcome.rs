//! What an answer says of the instance that it came from.

use std::str::FromStr;

use crate::headers::Headers;

/// What the filter reads of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: Status,
    /// How often Envoy tried, if the answer says so.
    pub attempts: Option<u64>,
}

impl Answer {
    /// Of an Envoy that writes the number of attempts into its answers
    /// (`include_attempt_count_in_response`).
    pub fn of(headers: &Headers) -> Self {
        let (mut status, mut attempts) = (None, None);
        for (name, value) in headers {
            if name == b":status" {
                status.get_or_insert(value);
            } else if name == b"x-envoy-attempt-count" {
                attempts.get_or_insert(value);
            }
        }
        Self {
            status: Status::of(status.unwrap_or_default()),
            attempts: attempts.and_then(number),
        }
    }
}

fn number<N: FromStr>(digits: &[u8]) -> Option<N> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// An HTTP status; 0 where there is none that can be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status(u16);

impl Status {
    /// From its digits.
    pub fn of(digits: &[u8]) -> Self {
        Self(number(digits).unwrap_or(0))
    }

    /// Whether the request was done.
    pub fn is_success(self) -> bool {
        matches!(self.0, 200..300)
    }

    /// What comes before the answer (100, 103) is not it, but the switch of protocols is.
    pub fn is_interim(self) -> bool {
        matches!(self.0, 100 | 102..200)
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
pub fn outcome(status: Status, flags: impl Fn() -> u64) -> Outcome {
    /// Upstream request timeout, remote reset, connection failure, connection termination.
    const BY_INSTANCE: u64 = 0x4 | 0x10 | 0x20 | 0x40;
    if !matches!(status.0, 502..=504) {
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
            let status = Status(200);
            assert_eq!(Answer::of(&headers(&list)), Answer { status, attempts });
        }
        let (status, attempts) = (Status(0), None);
        assert_eq!(Answer::of(&Headers::default()), Answer { status, attempts });
    }

    #[test]
    fn a_gateway_status_is_held_against_the_instance_unless_envoy_made_it() {
        const OVERFLOW: u64 = 0x80;
        const CONNECTION_FAILURE: u64 = 0x20;
        const RETRY_LIMIT: u64 = 0x8000;
        let judge = |status: &str, flags| outcome(Status::of(status.as_bytes()), || flags);
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
    fn a_status_is_success_interim_or_neither() {
        for (status, success, interim) in [
            ("200", true, false),
            ("299", true, false),
            ("300", false, false),
            ("100", false, true),
            ("101", false, false),
            ("103", false, true),
            ("", false, false),
            ("2xx", false, false),
            ("99999", false, false),
        ] {
            let status = Status::of(status.as_bytes());
            assert_eq!(
                (status.is_success(), status.is_interim()),
                (success, interim),
                "{status:?}"
            );
        }
    }

    #[test]
    fn flags_are_not_asked_for_where_they_do_not_matter() {
        let asked = || unreachable!("an answer of 200 needs no flags");
        assert_eq!(outcome(Status(200), asked), Outcome::Success);
    }
}
