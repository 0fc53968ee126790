//! The changes of members → the share of keys in the event of each.
//!
//! A slow start moves keys in many steps. The event of its end has the share that moved from the
//! first step on.

use unitring_routing::membership::{Change, Member};
use unitring_routing::names::Names;

/// The share of keys that moved since each slow start, by id.
#[derive(Debug, Default)]
pub struct Warming(Vec<(String, f64)>);

impl Warming {
    /// The share for each of these changes, which together moved the share `moved`. `members` are
    /// the members after the changes.
    pub fn shares(
        &mut self,
        members: &[Member],
        changes: &[(Member, Change)],
        moved: f64,
    ) -> Vec<f64> {
        for (_, share) in &mut self.0 {
            *share += moved;
        }
        let present = Names::of(members.iter().map(|member| member.id.as_str()));
        let mut goes_on: Vec<bool> = self.0.iter().map(|(id, _)| present.has(id)).collect();
        let known = Names::of(self.0.iter().map(|(id, _)| id.as_str()));
        let mut begun = Vec::new();
        let share = |(member, change): &(Member, Change)| {
            let at = known.last(&member.id);
            let comes = matches!(change, Change::Added | Change::Recovered);
            if comes && !member.is_warm() {
                begun.push((member.id.clone(), moved));
            } else if *change != Change::Warmed {
                return moved;
            }
            if let Some(goes_on) = at.and_then(|at| goes_on.get_mut(at)) {
                *goes_on = false;
            }
            let all = at.filter(|_| !comes).and_then(|at| self.0.get(at));
            all.map_or(moved, |(_, share)| share.min(1.0))
        };
        let shares = changes.iter().map(share).collect();
        let mut goes_on = goes_on.into_iter();
        self.0.retain(|_| goes_on.next().unwrap_or(false));
        self.0.append(&mut begun);
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unitring_routing::membership::Warmth;

    fn member(id: &str, percent: u8) -> Member {
        Member {
            warmth: Warmth::new(percent).unwrap(),
            ..Member::new(id, &format!("{id}:80"))
        }
    }

    #[test]
    fn the_end_of_a_slow_start_has_all_that_moved_since_its_beginning() {
        let mut warming = Warming::default();
        let cold = [member("a", 10), member("b", 100)];
        let came = [
            (cold[0].clone(), Change::Added),
            (cold[1].clone(), Change::Added),
        ];
        assert_eq!(warming.shares(&cold, &came, 0.25), [0.25, 0.25]);
        assert!(warming.shares(&cold, &[], 0.125).is_empty());
        let warm = [member("a", 100), member("b", 100)];
        let warmed = [
            (warm[0].clone(), Change::Warmed),
            (warm[1].clone(), Change::Warmed),
        ];
        assert_eq!(warming.shares(&warm, &warmed, 0.5), [0.875, 0.5]);
        assert!(warming.0.is_empty());
    }

    #[test]
    fn one_that_is_gone_is_forgotten_and_one_that_comes_back_begins_anew() {
        let mut warming = Warming::default();
        let cold = [member("a", 10)];
        let came = [(cold[0].clone(), Change::Added)];
        warming.shares(&cold, &came, 0.5);
        let back = [(cold[0].clone(), Change::Recovered)];
        warming.shares(&cold, &back, 0.25);
        let warmed = [(member("a", 100), Change::Warmed)];
        assert_eq!(warming.shares(&cold, &warmed, 0.125), [0.375]);
        warming.shares(&cold, &came, 0.5);
        warming.shares(&[], &[], 0.5);
        assert!(warming.0.is_empty());
    }
}
