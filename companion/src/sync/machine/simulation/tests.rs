//! Fixed runs, and random ones by their seeds.

use std::ops::Range;

use super::super::{Input, Note};
use super::broken::Broken;
use super::faults::Faults;
use super::store::Store;
use super::stories::first_bad;
use super::world::{Node, RULES, STEP_MS, World};

/// A missing protection shows within this many stories of its kind.
const BROKEN_SEEDS: u64 = 400;

/// The seeds of every run of the tests, or those of the variable: `SEEDS=0..9000`, or `SEEDS=28..29` for a single
/// one.
fn seeds() -> Range<u64> {
    let Ok(said) = std::env::var("SEEDS") else {
        return 0..2_000;
    };
    let (first, end) = said.split_once("..").unwrap();
    first.parse().unwrap()..end.parse().unwrap()
}

#[test]
fn without_faults_a_write_is_everywhere_within_a_second_and_nothing_is_repaired() {
    let mut world = World::new(1, 3, Broken::Nothing);
    world.run(4, Faults::default());
    for _ in 0..50 {
        world.write();
        world.step(Faults::default());
    }
    assert!(world.settle().unwrap() <= 2);
    assert_eq!(world.notes.get(&Note::Repaired).copied().unwrap_or(0), 0);
    assert_eq!(world.notes.get(&Note::Gaps).copied().unwrap_or(0), 0);
    assert_eq!(world.notes.get(&Note::Diverged).copied().unwrap_or(0), 0);
}

#[test]
fn a_unit_that_lost_its_store_gets_everything_back_and_what_it_writes_then_counts() {
    let mut world = World::new(2, 2, Broken::Nothing);
    for _ in 0..60 {
        world.write();
        world.step(Faults::default());
    }
    world.settle().unwrap();
    let id = world.nodes[1].id.clone();
    let before = world.nodes[1].store.live(0);
    world.nodes[1].store = Store::new(id, Broken::Nothing);
    world.nodes[1].positions.clear();
    // The ops that it writes before it gets anything back have low numbers again.
    for _ in 0..20 {
        world.write();
        world.step(Faults::default());
    }
    world.settle().unwrap();
    assert!(before.keys().all(|id| !id.key.as_str().is_empty()));
}

#[test]
fn a_unit_that_joins_late_gets_what_was_before_it() {
    let mut world = World::new(3, 3, Broken::Nothing);
    for _ in 0..60 {
        world.write();
        world.step(Faults::default());
        // The third has no store yet, and nothing waits for it.
        let late = world.nodes.last_mut().unwrap();
        late.forget_queue();
        late.store = Store::new(late.id.clone(), Broken::Nothing);
    }
    // The writes there meanwhile are lost.
    let late = world.nodes[2].id.clone();
    world.forgive(&late);
    world.settle().unwrap();
    assert!(world.notes[&Note::Repaired] > 0);
}

#[test]
fn records_that_differ_at_equal_positions_are_found_and_repaired() {
    let mut world = World::new(4, 2, Broken::Nothing);
    for _ in 0..40 {
        world.write();
        world.step(Faults::default());
    }
    world.settle().unwrap();
    world.nodes[0].store.damage();
    assert!(world.check().is_err());
    world.settle().unwrap();
    assert!(world.notes[&Note::Diverged] > 0);
}

#[test]
fn a_unit_that_was_away_for_longer_than_the_outbox_keeps_is_told_and_repairs() {
    let mut world = World::new(5, 2, Broken::Nothing);
    world.keys = 300;
    world.run(20, Faults::default());
    let cut = Faults {
        link_down: 100,
        ..Faults::default()
    };
    for _ in 0..400 {
        world.write();
        world.step(cut);
    }
    let kept = world.nodes[0].store.waiting();
    let kept: u64 = kept.values().map(|waiting| waiting.ops).sum();
    // The ops of a second of writes are dropped with the next count.
    assert!(kept <= RULES.outbox_max.ops + 20, "{kept} ops are kept");
    world.settle().unwrap();
    assert!(world.notes[&Note::Skipped] > 0);
    assert!(world.notes[&Note::Repaired] > 0);
}

#[test]
fn tombstones_and_what_has_expired_are_forgotten_once_all_members_know() {
    let mut world = World::new(6, 3, Broken::Nothing);
    for _ in 0..200 {
        world.write();
        world.step(Faults::default());
    }
    let gone = |world: &World| -> usize { world.nodes.iter().map(|node| node.store.gone()).sum() };
    assert!(gone(&world) > 0);
    world.run(60_000 / STEP_MS, Faults::default());
    assert_eq!(gone(&world), 0);
    world.settle().unwrap();
}

#[test]
fn clocks_that_are_apart_are_seen() {
    let mut world = World::new(7, 3, Broken::Nothing);
    world.run(200, Faults::default());
    let (one, other) = (&world.nodes[0], &world.nodes[1]);
    let apart = other.skew_ms - one.skew_ms;
    let seen = world.skews[&(one.id.clone(), other.id.clone())];
    assert!(
        (seen - apart).unsigned_abs() <= STEP_MS,
        "{seen} for {apart}"
    );
}

#[test]
fn changes_that_did_not_know_of_each_other_are_told_where_they_were_made() {
    let mut world = World::new(8, 2, Broken::Nothing);
    world.keys = 1;
    world.run(20, Faults::default());
    let cut = Faults {
        link_down: 100,
        ..Faults::default()
    };
    world.run(1, cut);
    for _ in 0..40 {
        world.write();
        world.step(cut);
    }
    world.settle().unwrap();
    for node in &world.nodes {
        assert!(node.store.conflicts() > 0, "{}", node.id);
    }
}

#[test]
fn a_unit_that_left_holds_nothing_back_and_comes_back_empty() {
    let mut world = World::new(9, 3, Broken::Nothing);
    for _ in 0..60 {
        world.write();
        world.step(Faults::default());
    }
    world.settle().unwrap();
    // The third is gone, and no unit waits for it: outboxes are empty, tombstones are collected.
    world.members(&[0, 1]);
    let left = world.nodes.pop().unwrap();
    for _ in 0..60 {
        world.write();
        world.step(Faults::default());
    }
    world.settle().unwrap();
    world.run(60_000 / STEP_MS, Faults::default());
    for node in &world.nodes {
        assert_eq!(node.store.gone(), 0, "{}", node.id);
    }
    // It comes back with an empty store, and gets everything.
    world.nodes.push(left);
    let back = &mut world.nodes[2];
    back.store = Store::new(back.id.clone(), Broken::Nothing);
    back.forget_queue();
    back.positions.clear();
    world.members(&[0, 1, 2]);
    world.settle().unwrap();
}

#[test]
fn a_second_unit_of_one_name_takes_nothing_from_the_others() {
    for seed in 0..50 {
        let mut world = World::new(seed, 3, Broken::Nothing);
        // It has a store of its own and the queue of the first, which reads it alone.
        let skew_ms = world.nodes[0].skew_ms;
        let mut twin = Node::new(0, vec![0, 1, 2], skew_ms, Broken::Nothing);
        twin.store.identity = 99;
        twin.inbox = [Input::Identity(99)].into();
        world.nodes.push(twin);
        for _ in 0..100 {
            world.write();
            world.step(Faults::default());
        }
        world.run(60_000 / STEP_MS, Faults::default());
        // The writes of the others, and of the first unit of the name, are everywhere but there.
        let twin = world.nodes.pop().unwrap();
        assert!(twin.queue.is_empty() && twin.unacked.is_empty());
        assert!(world.namesakes.contains(&twin.id), "seed {seed}");
        let held = |number: usize| world.nodes[number].store.live(0);
        assert_eq!(held(0), held(1), "seed {seed}");
        assert_eq!(held(1), held(2), "seed {seed}");
    }
}

#[test]
fn once_faults_stop_all_units_hold_what_was_acknowledged_and_nothing_deleted() {
    if let Some((seed, why)) = first_bad(seeds(), None, Broken::Nothing) {
        panic!("seed {seed}: {why}");
    }
}

#[test]
fn without_any_one_of_its_protections_the_simulation_fails() {
    let mut missed = Vec::new();
    for (broken, kind) in Broken::ALL {
        match first_bad(0..BROKEN_SEEDS, Some(kind), broken) {
            Some((seed, why)) => {
                println!("{broken:?}: {} of {kind:?}: {why:.120}", seed + 1);
            }
            None => missed.push(broken),
        }
    }
    assert!(
        missed.is_empty(),
        "in {BROKEN_SEEDS} stories each, not noticed: {missed:?}"
    );
}
