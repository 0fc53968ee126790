//! The role of a companion among those of its unit, as answers show it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The role of a companion in its unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnitRole {
    Leader,
    Follower,
    /// The store did not answer, or a later version has another role.
    #[default]
    #[serde(other)]
    Unknown,
}

impl UnitRole {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for UnitRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_as_it_was_written_and_another_one_is_unknown() {
        for role in [UnitRole::Leader, UnitRole::Follower, UnitRole::Unknown] {
            let json = serde_json::to_value(role).unwrap();
            assert_eq!(json, role.as_str());
            assert_eq!(serde_json::from_value::<UnitRole>(json).unwrap(), role);
        }
        let other = serde_json::from_str::<UnitRole>("\"observer\"").unwrap();
        assert_eq!(other, UnitRole::Unknown);
    }
}
