//! An error with its causes → one line for people that names each cause once: many errors already name theirs.

/// The error and the causes that it does not name itself.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context as _;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read the file: {source}")]
    struct SaysItsCause {
        source: io::Error,
    }

    fn cause() -> io::Error {
        io::Error::other("no disk")
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::Error::from(SaysItsCause { source: cause() });
        assert_eq!(told(&error), "read the file: no disk");
        let error = error.context("start");
        assert_eq!(told(&error), "start: read the file: no disk");
        let error = Err::<(), _>(cause()).context("read the file").unwrap_err();
        assert_eq!(told(&error), "read the file: no disk");
    }
}
