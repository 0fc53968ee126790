//! The shares of moved keys in `docs/placement.md` are right.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../examples/moved.rs"]
#[allow(dead_code, reason = "its main is not called here")]
mod moved;

use moved::{Moved, STEPS, evenness_table, least, moved, shapes, table};

fn each() -> impl Iterator<Item = ((usize, usize), [Moved; 3])> {
    let by_shape = |step| shapes().map(|(_, shape)| moved(shape, step).unwrap());
    STEPS.into_iter().map(move |step| (step, by_shape(step)))
}

#[test]
fn the_tables_in_the_docs_are_what_the_example_prints() {
    let page = include_str!("../../docs/placement.md");
    for table in [table().unwrap(), evenness_table().unwrap()] {
        assert!(page.contains(&table), "{table}");
    }
}

#[test]
fn fixed_fill_moves_the_keys_of_the_instance_that_comes_or_goes_and_no_other() {
    for (step, [_, fixed, _]) in each() {
        assert_eq!(fixed.needless, 0.0, "{step:?}");
        let off = fixed.all / least(step);
        assert!((0.8..1.25).contains(&off), "{step:?}: {off} of the least");
    }
}

#[test]
fn envoys_fill_and_maglev_move_keys_of_instances_that_stay() {
    for (step, [envoy, fixed, maglev]) in each() {
        assert!(maglev.needless > 0.0, "{step:?}");
        // Envoy's fill changes every instance's number of points while there are few instances;
        // with many, the number is 2 before and after.
        if step.0 <= 10 {
            assert!(envoy.needless > 0.05, "{step:?}: {envoy:?}");
            assert!(envoy.all > 1.3 * fixed.all, "{step:?}: {envoy:?}");
        }
    }
}
