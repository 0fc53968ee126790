//! A check of `/readyz`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::LinkState;

/// Whether a part of the unit is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Check {
    Ok,
    /// It is not, and why.
    Failed(String),
}

impl Check {
    pub fn is_ok(&self) -> bool {
        *self == Self::Ok
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Failed(why) => why,
        })
    }
}

impl From<String> for Check {
    fn from(text: String) -> Self {
        match text.as_str() {
            "ok" => Self::Ok,
            _ => Self::Failed(text),
        }
    }
}

impl From<Check> for String {
    fn from(check: Check) -> Self {
        check.to_string()
    }
}

impl<T> From<Result<T, String>> for Check {
    fn from(answer: Result<T, String>) -> Self {
        answer.map_or_else(Self::Failed, |_| Self::Ok)
    }
}

impl From<LinkState> for Check {
    fn from(state: LinkState) -> Self {
        match state {
            LinkState::Up => Self::Ok,
            state => Self::Failed(state.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_ok_only_if_it_says_so() {
        let failed = Check::from(LinkState::Blocked("memory".to_owned()));
        assert_eq!(failed.to_string(), "blocked: memory");
        assert!(Check::from(LinkState::Up).is_ok() && !failed.is_ok());
        for text in ["", "Ok", "removed"] {
            assert!(!Check::from(text.to_owned()).is_ok(), "{text}");
        }
        let read: Check = serde_json::from_str("\"ok\"").unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), "\"ok\"");
        assert_eq!(
            Check::from(Err::<(), _>("away".to_owned())),
            Check::Failed("away".to_owned())
        );
    }
}
