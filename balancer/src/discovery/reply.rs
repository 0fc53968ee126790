//! Envoy's answer to one question, by its status.

use super::DiscoveryError;

/// An answer, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The body of an answer.
    Body(&'a [u8]),
    /// Envoy does not show it: it has nothing of that name, or `allow_paths` forbids the path.
    Refused,
    /// There was no answer in time, or an error of whatever lies between. It says nothing of what Envoy
    /// shows, so what was known stays in force.
    Missing,
}

impl<'a> Reply<'a> {
    /// The answer of this status and body; the status is empty if there is no answer.
    pub fn new(status: &[u8], body: &'a [u8]) -> Self {
        match status {
            b"200" => Reply::Body(body),
            b"400" | b"403" | b"404" => Reply::Refused,
            _ => Reply::Missing,
        }
    }

    /// What `read` makes of the body; `None` if Envoy does not show it.
    ///
    /// # Errors
    /// If there is no answer, or `read` fails.
    pub(super) fn read<T>(
        self,
        read: impl FnOnce(&[u8]) -> Result<T, DiscoveryError>,
    ) -> Result<Option<T>, DiscoveryError> {
        match self {
            Reply::Body(body) => read(body).map(Some),
            Reply::Refused => Ok(None),
            Reply::Missing => Err(DiscoveryError::NoAnswer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_envoy_that_says_so_hides_something() {
        for refused in ["400", "403", "404"] {
            assert_eq!(Reply::new(refused.as_bytes(), b"x"), Reply::Refused);
        }
        for missing in ["", "500", "503", "504", "302", "429"] {
            assert_eq!(Reply::new(missing.as_bytes(), b"x"), Reply::Missing);
        }
        assert_eq!(Reply::new(b"200", b"x"), Reply::Body(b"x"));
    }
}
