//! What an answer says of the instance that it came from.

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
