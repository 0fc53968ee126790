use super::*;
use crate::top::fixtures::{instance, model, sample, service, want};
use crate::top::sample::Content;

fn orders(second: u64, calls: u64) -> Sample {
    let orders = service("orders", &[instance("a", calls), instance("b", calls)]);
    sample(second, Content::Services(vec![orders]))
}

fn cells(model: &Model) -> Vec<Vec<String>> {
    let rows = model.table.rows.iter();
    let cells = rows.map(|row| row.cells.iter().map(|cell| cell.text.clone()).collect());
    cells.collect()
}

#[test]
fn rates_go_on_from_view_to_view() {
    let mut model = model(&[]);
    model.take(&want(View::Services), Ok(orders(1, 100)));
    assert_eq!(cells(&model)[0][5], "-");
    model.press(Key::Enter);
    assert!(cells(&model).is_empty());
    let asked = model.state.want();
    assert_eq!(asked.service.as_deref(), Some("orders"));
    model.take(&asked, Ok(orders(3, 120)));
    assert_eq!(cells(&model)[0][..4], ["a", "ok", "3", "10.0"]);
    model.press(Key::Char('1'));
    assert_eq!(cells(&model)[0][5], "20.0");
}

#[test]
fn without_an_answer_the_last_values_stay_and_are_old() {
    let mut model = model(&[]);
    let seconds = Duration::from_secs;
    assert_eq!(model.screen(seconds(0)).head.0, "no answer yet");
    model.take(&want(View::Services), Ok(orders(1, 100)));
    let screen = model.screen(seconds(2));
    assert_eq!(screen.head.0, "unit east, leader, ready");
    assert!(!screen.is_old && screen.notes.is_empty());
    // It hangs.
    let screen = model.screen(seconds(9));
    assert!(screen.is_old);
    assert_eq!(screen.notes[0].0, "last answered 8 s ago: no answer yet");
    let refused = "http://127.0.0.1:1: connection refused\x1b[2J";
    model.take(&want(View::Services), Err(refused.to_owned()));
    let screen = model.screen(seconds(2));
    assert!(screen.is_old && screen.table.rows.len() == 1);
    let note = "last answered 1 s ago: http://127.0.0.1:1: connection refused\\u{1b}[2J";
    assert_eq!(screen.notes[0].0, note);
    model.take(&want(View::Services), Ok(orders(3, 100)));
    assert!(!model.screen(seconds(3)).is_old);
}

#[test]
fn a_pause_is_not_old() {
    let mut model = model(&[]);
    model.take(&want(View::Services), Ok(orders(1, 100)));
    model.press(Key::Char('p'));
    let screen = model.screen(Duration::from_secs(100));
    assert!(!screen.is_old && screen.notes.is_empty());
}

#[test]
fn instances_of_one_service_are_not_shown_as_those_of_another() {
    let mut model = model(&["--service", "orders"]);
    let asked = model.state.want();
    model.take(&asked, Ok(orders(1, 100)));
    assert_eq!(cells(&model).len(), 2);
    model.press(Key::Char('1'));
    let carts = service("carts", &[]);
    model.take(
        &model.state.want().clone(),
        Ok(sample(2, Content::Services(vec![carts]))),
    );
    model.press(Key::Enter);
    assert!(cells(&model).is_empty());
}

#[test]
fn what_is_wrong_of_the_unit_stands_above_the_table() {
    let mut model = model(&[]);
    let mut sick = orders(1, 1);
    sick.ready.ready = false;
    sick.ready
        .checks
        .insert("store".to_owned(), "connection refused".to_owned().into());
    sick.ready.wiring = vec![
        "wired wrongly: a\u{7}".to_owned(),
        "wired wrongly: b".to_owned(),
    ];
    model.take(&want(View::Services), Ok(sick));
    let screen = model.screen(Duration::from_secs(1));
    assert_eq!(
        screen.head,
        ("unit east, leader, not ready".to_owned(), Tone::Bad)
    );
    let notes: Vec<&str> = screen.notes.iter().map(|(note, _)| note.as_str()).collect();
    assert_eq!(
        notes,
        [
            "store: connection refused",
            "wired wrongly: a\\u{7} (and 1 more: unitring status names them)"
        ]
    );
}
