//! Changes between two looks.

use super::*;

const SICK: State = State::Failed(Cause::ActiveCheck);

fn member(port: u16, state: State) -> Member {
    Member {
        state,
        ..Member::new(&format!("i{port}"), &format!("10.0.0.1:{port}"))
    }
}

fn changes(before: &[Member], after: &[Member], identity: Identity) -> Vec<(String, Change)> {
    diff(before, after, identity)
        .into_iter()
        .map(|(member, change)| (member.id.clone(), change))
        .collect()
}

#[test]
fn a_diff_names_what_came_went_failed_drained_and_recovered() {
    use State::{Draining, Serving};
    let before = [
        member(1, Serving),
        member(2, Serving),
        member(3, SICK),
        member(4, Serving),
        member(6, Serving),
        member(7, Draining),
    ];
    let after = [
        member(2, SICK),
        member(3, Serving),
        member(4, Serving),
        member(5, Serving),
        member(6, Draining),
        member(7, Serving),
    ];
    let expected = [
        ("i1", Change::Removed),
        ("i2", Change::Ejected(Cause::ActiveCheck)),
        ("i3", Change::Recovered),
        ("i5", Change::Added),
        ("i6", Change::Draining),
        ("i7", Change::Recovered),
    ];
    let expected = expected.map(|(id, change)| (id.to_owned(), change));
    assert_eq!(changes(&before, &after, Identity::Address), expected);
    assert_eq!(changes(&after, &after, Identity::Address), []);
}

#[test]
fn an_instance_at_another_address_moved_by_id_and_is_another_one_by_address() {
    let before = [member(1, State::Serving)];
    let after = [Member {
        id: "i1".into(),
        ..member(9, State::Serving)
    }];
    let by_id = changes(&before, &after, Identity::Id);
    assert_eq!(by_id, [("i1".into(), Change::Moved)]);
    let by_address = changes(&before, &after, Identity::Address);
    assert_eq!(
        by_address,
        [("i1".into(), Change::Removed), ("i1".into(), Change::Added)]
    );
}

#[test]
fn the_end_of_a_slow_start_is_told_once() {
    let warm = |percent| Member {
        warmth: Warmth::new(percent).unwrap(),
        ..member(1, State::Serving)
    };
    let step = |a, b| changes(&[warm(a)], &[warm(b)], Identity::Address);
    assert_eq!(step(10, 50), []);
    assert_eq!(step(50, 100), [("i1".into(), Change::Warmed)]);
    assert_eq!(step(100, 100), []);
    assert_eq!((Warmth::new(0), Warmth::new(101)), (None, None));
}
