use super::*;
use crate::top::fixtures::flags;
use crate::top::table::Cell;

fn state(arguments: &[&str]) -> State {
    State::new(&flags(arguments)).unwrap()
}

fn rows(names: &[&str]) -> Vec<Row> {
    let row = |name: &&str| Row {
        id: (*name).to_owned(),
        service: Some(format!("service {name}")),
        cells: vec![Cell::text(name)],
    };
    names.iter().map(row).collect()
}

#[test]
fn a_service_alone_means_its_instances() {
    assert_eq!(state(&[]).want().view, View::Services);
    let want = state(&["--service", "orders"]).want();
    assert_eq!(
        (want.view, want.service.as_deref()),
        (View::Instances, Some("orders"))
    );
    assert_eq!(
        state(&["--service", "s", "--view", "events"]).view,
        View::Events
    );
}

#[test]
fn a_column_that_the_view_lacks_is_an_error_that_names_those_it_has() {
    let error = State::new(&flags(&["--view", "envoys", "--sort", "keys"])).unwrap_err();
    let begin = "--sort keys: envoys have the columns envoy, service, ring, ";
    assert!(error.starts_with(begin), "{error}");
    let sort = state(&["--view", "instances", "--sort", "In-Flight", "--reverse"]).sort();
    assert_eq!((sort.column, sort.is_reversed), ("in-flight", true));
}

#[test]
fn shares_are_asked_for_only_where_they_are_shown() {
    let mut state = state(&["--view", "instances"]);
    assert!(!state.want().has_shares);
    state.apply(Action::Shares, &[]);
    assert!(state.want().has_shares);
    state.apply(Action::Show(View::Envoys), &[]);
    assert!(!state.want().has_shares);
    // To sort by shares, the view asks for them.
    let by_keys = ["--view", "instances", "--sort", "keys"];
    assert!(State::new(&flags(&by_keys)).unwrap().want().has_shares);
}

#[test]
fn a_selection_stays_on_its_row_wherever_that_goes() {
    let (mut state, before) = (state(&[]), rows(&["a", "b", "c"]));
    state.apply(Action::Move(1), &before);
    assert_eq!(state.place(&before), 1);
    assert_eq!(state.place(&rows(&["b", "a", "c"])), 0);
    // It is gone: what stands in its place is selected.
    assert_eq!(state.place(&rows(&["a", "c", "d"])), 1);
    assert_eq!(state.place(&rows(&["a"])), 0);
    assert_eq!(state.place(&[]), 0);
}

#[test]
fn a_selection_moves_by_rows_and_pages_to_both_ends() {
    let rows = rows(&["a", "b", "c", "d", "e"]);
    let mut state = state(&[]);
    state.page = 3;
    let mut after = |action| {
        state.apply(action, &rows);
        state.place(&rows)
    };
    let moves = [
        (Action::Page(1), 3),
        (Action::Page(1), 4),
        (Action::Page(-1), 1),
        (Action::Move(-5), 0),
        (Action::Last, 4),
        (Action::First, 0),
    ];
    for (action, place) in moves {
        assert_eq!(after(action), place, "{action:?}");
    }
}

#[test]
fn enter_opens_the_instances_of_the_selected_service() {
    let (mut state, rows) = (state(&[]), rows(&["a", "b"]));
    state.apply(Action::Open, &[]);
    assert_eq!(state.view, View::Services);
    state.apply(Action::Move(1), &rows);
    state.apply(Action::Open, &rows);
    let want = state.want();
    assert_eq!(
        (want.view, want.service.as_deref()),
        (View::Instances, Some("service b"))
    );
    // The other views still show all services.
    state.apply(Action::Show(View::Envoys), &[]);
    assert_eq!(state.want().service, None);
}

#[test]
fn the_order_goes_from_column_to_column_and_stops_at_the_ends() {
    let mut state = state(&[]);
    let mut after = |action| {
        state.apply(action, &[]);
        (state.sort().column, state.sort().is_reversed)
    };
    assert_eq!(after(Action::PreviousColumn), ("service", false));
    assert_eq!(after(Action::Reverse), ("service", true));
    assert_eq!(after(Action::NextColumn), ("instances", false));
    for _ in 0..20 {
        after(Action::NextColumn);
    }
    assert_eq!(after(Action::NextColumn), ("wiring", false));
    assert_eq!(after(Action::NextView), ("calls/s", false));
    assert_eq!(after(Action::PreviousView), ("wiring", false));
}

#[test]
fn a_filter_is_typed_erased_kept_and_removed() {
    let mut state = state(&[]);
    state.apply(Action::Enter(Mode::Filter), &[]);
    for character in "orx\u{1b}".chars() {
        state.apply(Action::Type(character), &[]);
    }
    state.apply(Action::Erase, &[]);
    state.apply(Action::Enter(Mode::Table), &[]);
    assert_eq!((state.filter.as_str(), state.mode), ("or", Mode::Table));
    state.apply(Action::ClearFilter, &[]);
    assert_eq!(state.filter, "");
    for _ in 0..1_000 {
        state.apply(Action::Type('x'), &[]);
    }
    assert_eq!(state.filter.len(), FILTER_CHARS_MAX);
}
