//! A link of a unit: out to another unit, or in from its own queue.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum LinkState {
    #[default]
    NotConnected,
    Up,
    /// The other unit was removed from the group.
    PeerRemoved,
    /// This unit was.
    Removed,
    /// Another companion of the unit leads, or this one does not know the leader.
    Elsewhere,
    /// The broker blocks the connection, and why.
    Blocked(String),
    /// There is no connection, and why.
    Down(String),
}

const NOT_CONNECTED: &str = "not connected yet";
const UP: &str = "ok";
const PEER_REMOVED: &str = "removed";
const REMOVED: &str = "removed from the group";
const ELSEWHERE: &str = "another companion of the unit syncs";
const BLOCKED: &str = "blocked: ";

impl LinkState {
    pub fn is_up(&self) -> bool {
        *self == Self::Up
    }

    /// Whether somebody has to mend it: nobody misses a unit that was removed.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Self::Up | Self::PeerRemoved)
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected => f.write_str(NOT_CONNECTED),
            Self::Up => f.write_str(UP),
            Self::PeerRemoved => f.write_str(PEER_REMOVED),
            Self::Removed => f.write_str(REMOVED),
            Self::Elsewhere => f.write_str(ELSEWHERE),
            Self::Blocked(why) => write!(f, "{BLOCKED}{why}"),
            Self::Down(why) => f.write_str(why),
        }
    }
}

impl From<String> for LinkState {
    fn from(text: String) -> Self {
        match text.as_str() {
            NOT_CONNECTED => Self::NotConnected,
            UP => Self::Up,
            PEER_REMOVED => Self::PeerRemoved,
            REMOVED => Self::Removed,
            ELSEWHERE => Self::Elsewhere,
            _ => match text.strip_prefix(BLOCKED) {
                Some(why) => Self::Blocked(why.to_owned()),
                None => Self::Down(text),
            },
        }
    }
}

impl From<LinkState> for String {
    fn from(state: LinkState) -> Self {
        state.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let why = || "connection refused".to_owned();
        for (state, text) in [
            (LinkState::NotConnected, "not connected yet"),
            (LinkState::Up, "ok"),
            (LinkState::PeerRemoved, "removed"),
            (LinkState::Removed, "removed from the group"),
            (LinkState::Elsewhere, "another companion of the unit syncs"),
            (LinkState::Blocked(why()), "blocked: connection refused"),
            (LinkState::Down(why()), "connection refused"),
        ] {
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(json, format!("{text:?}"));
            assert_eq!(serde_json::from_str::<LinkState>(&json).unwrap(), state);
        }
    }

    #[test]
    fn only_a_link_that_is_up_and_that_of_a_removed_unit_are_no_faults() {
        assert!(!LinkState::Up.is_fault() && !LinkState::PeerRemoved.is_fault());
        for text in [
            "",
            "OK",
            "a text of a later version",
            "removed from the group",
        ] {
            let state = LinkState::from(text.to_owned());
            assert!(state.is_fault() && !state.is_up(), "{text}");
        }
    }
}
