//! An answer → whether the instance that it came from succeeded or failed.

use std::str::FromStr;

use crate::headers::Headers;

/// The parts of an answer that the filter reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: Status,
    /// How many attempts Envoy made, if the answer says so.
    pub attempts: Option<u64>,
    /// Set for a gRPC call, with its status as far as it is known before the trailers.
    pub grpc: Option<Grpc>,
}

/// The answer to a gRPC call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grpc {
    /// The status will be in the trailers.
    Unknown,
    /// The status.
    Status(u16),
}

impl Answer {
    /// Reads the headers of an answer. `attempts` is there if Envoy writes it
    /// (`include_attempt_count_in_response`).
    pub fn of(headers: &Headers) -> Self {
        let (mut status, mut attempts, mut grpc, mut is_grpc) = (None, None, None, false);
        for (name, value) in headers {
            match name {
                b":status" => _ = status.get_or_insert(value),
                b"x-envoy-attempt-count" => _ = attempts.get_or_insert(value),
                b"grpc-status" => _ = grpc.get_or_insert(value),
                b"content-type" => is_grpc |= value.starts_with(b"application/grpc"),
                _ => {}
            }
        }
        let known = grpc.map(|status| Grpc::Status(number(status).unwrap_or(2)));
        Self {
            status: Status::of(status.unwrap_or_default()),
            attempts: attempts.and_then(number),
            grpc: known.or(is_grpc.then_some(Grpc::Unknown)),
        }
    }
}

fn number<N: FromStr>(digits: &[u8]) -> Option<N> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// An HTTP status; 0 if it is absent or unreadable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status(u16);

impl Status {
    /// Parses the digits of `:status`.
    pub fn of(digits: &[u8]) -> Self {
        Self(number(digits).unwrap_or(0))
    }

    /// Whether this is an interim answer (100, 103), which precedes the real one. 101 is final.
    pub fn is_interim(self) -> bool {
        matches!(self.0, 100 | 102..200)
    }
}

/// The effect of an answer on the health of its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The instance works.
    Success,
    /// A gateway failure: the instance did not answer, or answered that it cannot.
    Failure,
    /// The instance had no part in the answer.
    Neither,
}

/// Judges by the status and by Envoy's response flags (`response.flags`, read only for statuses
/// that are gateway failures).
pub fn outcome(answer: &Answer, flags: impl Fn() -> u64) -> Outcome {
    /// Upstream request timeout, remote reset, connection failure, connection termination.
    const BY_INSTANCE: u64 = 0x4 | 0x10 | 0x20 | 0x40;
    let failed = match answer.grpc {
        // The codes that Envoy counts as failures: unknown, deadline exceeded, internal,
        // unavailable.
        Some(Grpc::Status(status)) => matches!(status, 2 | 4 | 13 | 14),
        Some(Grpc::Unknown) => return Outcome::Neither,
        None => matches!(answer.status.0, 502..=504),
    };
    if !failed {
        return Outcome::Success;
    }
    match flags() {
        // Without a flag the instance itself answered so.
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
            let expected = Answer {
                status,
                attempts,
                grpc: None,
            };
            assert_eq!(Answer::of(&headers(&list)), expected);
        }
        let nothing = Answer::of(&Headers::default());
        assert_eq!((nothing.status, nothing.attempts), (Status(0), None));
    }

    fn http(status: &str) -> Answer {
        Answer {
            status: Status::of(status.as_bytes()),
            attempts: None,
            grpc: None,
        }
    }

    #[test]
    fn a_grpc_call_is_judged_by_its_own_status_once_that_is_known() {
        let judge = |grpc: Option<&str>| {
            let mut list = vec![
                (":status", "200"),
                ("content-type", "application/grpc+proto"),
            ];
            list.extend(grpc.map(|status| ("grpc-status", status)));
            let answer = Answer::of(&headers(&list));
            outcome(&answer, || 0)
        };
        assert_eq!(judge(Some("0")), Outcome::Success);
        for (status, expected) in [
            ("5", Outcome::Success),
            ("8", Outcome::Success),
            ("14", Outcome::Failure),
            ("4", Outcome::Failure),
            ("odd", Outcome::Failure),
        ] {
            assert_eq!(judge(Some(status)), expected, "{status}");
        }
        assert_eq!(judge(None), Outcome::Neither);
    }

    #[test]
    fn a_gateway_status_is_held_against_the_instance_unless_envoy_made_it() {
        const OVERFLOW: u64 = 0x80;
        const CONNECTION_FAILURE: u64 = 0x20;
        const RETRY_LIMIT: u64 = 0x8000;
        let judge = |status: &str, flags| outcome(&http(status), || flags);
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
    fn an_interim_answer_precedes_the_real_one() {
        for (status, interim) in [
            ("200", false),
            ("100", true),
            ("101", false),
            ("103", true),
            ("", false),
            ("1xx", false),
            ("99999", false),
        ] {
            let status = Status::of(status.as_bytes());
            assert_eq!(status.is_interim(), interim, "{status:?}");
        }
    }

    #[test]
    fn flags_are_not_asked_for_where_they_do_not_matter() {
        let asked = || unreachable!("an answer of 200 needs no flags");
        assert_eq!(outcome(&http("200"), asked), Outcome::Success);
    }
}
