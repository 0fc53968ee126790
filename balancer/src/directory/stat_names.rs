//! Names of instance stats, bounded although Envoy never frees a stat.
//!
//! The first [`NAMED_MAX`] instances that a process ever sees have stats of their own name. Later
//! ones use numbered slots. A slot is reused once its instance is gone and its last request has
//! ended. Reports show which instance is in which slot.

use crate::stored::stored;

/// The most instances that have stats of their own name.
pub const NAMED_MAX: usize = 1_000;

/// The most slots; all further instances share the last one.
const SLOTS_MAX: usize = 32_768;

/// The names that were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatNames {
    /// In order of name.
    named: Vec<String>,
    slots: Vec<Option<String>>,
}

stored!(StatNames { named, slots });

impl StatNames {
    /// Frees the slots of instances that are gone and have no request left.
    pub fn release_gone(
        &mut self,
        is_member: impl Fn(&str) -> bool,
        is_idle: impl Fn(&str) -> bool,
    ) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if slot.as_deref().is_some_and(|id| !is_member(id)) && is_idle(&slot_name(number)) {
                *slot = None;
            }
        }
    }

    /// Every name ever given.
    pub fn given(&self) -> Vec<String> {
        let own = self.named.iter().map(|id| own_name(id));
        own.chain((0..self.slots.len()).map(slot_name)).collect()
    }

    /// The stat of an instance, and whether the stat may have counts from before.
    pub fn give(&mut self, id: &str) -> (String, bool) {
        match self.named.binary_search_by(|named| named.as_str().cmp(id)) {
            // The instance was here before, and its counters have kept their values.
            Ok(_) => return (own_name(id), true),
            Err(place) if self.named.len() < NAMED_MAX => {
                self.named.insert(place, id.to_owned());
                return (own_name(id), false);
            }
            Err(_) => {}
        }
        let theirs = self
            .slots
            .iter()
            .position(|slot| slot.as_deref() == Some(id));
        let number = theirs
            .or_else(|| self.slots.iter().position(Option::is_none))
            .unwrap_or(self.slots.len())
            .min(SLOTS_MAX - 1);
        match self.slots.get_mut(number) {
            Some(slot) => *slot = Some(id.to_owned()),
            None => self.slots.push(Some(id.to_owned())),
        }
        (slot_name(number), true)
    }
}

/// Some stats sinks reserve `:` and `|`.
fn own_name(id: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '[' | ']');
    format!("instance.{}", id.replace(|c: char| !plain(c), "_"))
}

fn slot_name(number: usize) -> String {
    format!("instance.slot-{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_instance_and_is_safe_in_a_stats_sink() {
        let mut names = StatNames::default();
        assert_eq!(names.give("10.0.0.1:80").0, "instance.10.0.0.1_80");
        assert_eq!(names.give("10.0.0.1:80").0, "instance.10.0.0.1_80");
    }

    #[test]
    fn a_slot_is_used_again_only_when_its_instance_is_gone_and_idle() {
        let mut names = StatNames::default();
        for n in 0..NAMED_MAX {
            names.give(&format!("named-{n}"));
        }
        assert_eq!(names.give("x"), ("instance.slot-0".into(), true));
        names.release_gone(|_| true, |_| true);
        assert_eq!(names.give("y").0, "instance.slot-1", "x is a member");
        names.release_gone(|id| id == "y", |_| false);
        assert_eq!(names.give("z").0, "instance.slot-2", "x still has requests");
        names.release_gone(|id| id == "y", |_| true);
        assert_eq!(names.give("w").0, "instance.slot-0");
        assert_eq!(names.give("named-3").0, "instance.named-3");
    }
}
