use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::top::fixtures::{instance, model, sample, service, want};
use crate::top::keys::Key;
use crate::top::model::Model;
use crate::top::sample::Content;

/// The screen of a terminal of this size.
fn drawn(model: &Model, second: u64, (width, height): (u16, u16)) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let screen = model.screen(Duration::from_secs(second));
    terminal.draw(|frame| draw(frame, &screen, true)).unwrap();
    terminal.backend().clone()
}

fn lines(backend: &TestBackend) -> Vec<String> {
    let buffer = backend.buffer();
    let (width, cells) = (usize::from(buffer.area.width), buffer.content());
    let line = |line: &[ratatui::buffer::Cell]| {
        // A wide character stands in the first of its cells.
        let mut text = String::new();
        let mut skip = 0;
        for cell in line {
            if skip == 0 {
                text.push_str(cell.symbol());
                skip = cell.symbol().width();
            }
            skip = skip.saturating_sub(1);
        }
        text.trim_end().to_owned()
    };
    cells.chunks(width).map(line).collect()
}

fn filled(names: &[&str]) -> Model {
    let mut model = model(&[]);
    let services = names.iter().map(|name| service(name, &[instance("a", 7)]));
    let content = Content::Services(services.collect());
    model.take(&want(View::Services), Ok(sample(1, content)));
    model
}

#[test]
fn a_screen_has_head_views_table_and_keys() {
    let model = filled(&["orders", "carts"]);
    let expected = [
        "unitring  unit east, leader, ready                            2025-11-29T07:06:41Z",
        "1 services  2 instances  3 envoys  4 units  5 events",
        "SERVICE▲   INSTANCES   UNHEALTHY   ENVOYS   IN FLIGHT   CALLS/S   FAILURES/S",
        "carts              1           0        1           3         -            -",
        "orders             1           0        1           3         -            -",
        "",
        "services: 1 of 2   ? help  q quit",
    ];
    let drawn = lines(&drawn(&model, 1, (82, 7)));
    assert_eq!(drawn, expected, "\n{}", drawn.join("\n"));
}

#[test]
fn wide_characters_and_what_a_terminal_would_obey_leave_columns_in_place() {
    let model = filled(&["注文", "a\x1b[31m\u{202e}b", "plain"]);
    let lines = lines(&drawn(&model, 1, (100, 8)));
    let shown = lines.join("\n");
    assert!(!shown.contains(['\x1b', '\u{202e}']), "{shown}");
    let end = |line: &&String| line[..line.find("   ").unwrap_or(0)].width();
    assert!(lines[3].starts_with("a\\u{1b}[31m\\u{202e}b "), "{shown}");
    // The second column of each ends at the same place.
    let at = |line: &str| {
        let place = line.find(" 1 ").unwrap();
        line[..place].width()
    };
    assert_eq!(at(&lines[3]), at(&lines[4]), "{shown}");
    assert_eq!(at(&lines[4]), at(&lines[5]), "{shown}");
    assert!(end(&&lines[5]) >= "注文".width(), "{shown}");
}

#[test]
fn values_of_before_are_grey_and_the_reason_is_red() {
    let mut model = filled(&["orders"]);
    model.take(&want(View::Services), Err("connection refused".to_owned()));
    let backend = drawn(&model, 2, (80, 8));
    let colour = |line: u16, column: u16| backend.buffer()[(column, line)].fg;
    let all = lines(&backend);
    assert!(
        all[1].starts_with("last answered 1 s ago: connection refused"),
        "{all:?}"
    );
    assert_eq!(colour(1, 0), Color::Red);
    assert!(all[4].starts_with("orders"), "{all:?}");
    assert_eq!(colour(4, 0), Color::DarkGray);
}

#[test]
fn without_colours_there_are_none() {
    let mut model = filled(&["orders"]);
    model.take(&want(View::Services), Err("connection refused".to_owned()));
    let mut terminal = Terminal::new(TestBackend::new(80, 10)).unwrap();
    let screen = model.screen(Duration::from_secs(2));
    terminal.draw(|frame| draw(frame, &screen, false)).unwrap();
    let cells = terminal.backend().buffer().content();
    assert!(
        cells
            .iter()
            .all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset))
    );
    assert!(
        cells
            .iter()
            .any(|cell| cell.modifier.contains(Modifier::DIM))
    );
}

#[test]
fn a_terminal_of_any_size_gets_something() {
    let mut model = filled(&["orders", "carts"]);
    for size in [(1, 1), (2, 30), (300, 2), (7, 5), (300, 100)] {
        drawn(&model, 1, size);
    }
    model.press(Key::Char('?'));
    for size in [(1, 1), (10, 4), (300, 100)] {
        drawn(&model, 1, size);
    }
    let help = lines(&drawn(&model, 1, (100, 30))).join("\n");
    assert!(
        help.contains("q, Esc, Ctrl-C") && help.contains("quit"),
        "{help}"
    );
}

#[test]
fn the_page_follows_the_selection_through_a_thousand_rows() {
    let mut model = model(&["--view", "instances", "--sort", "instance"]);
    let instances: Vec<_> = (0..1_000)
        .map(|n| instance(&format!("i{n:03}"), n))
        .collect();
    let content = Content::Services(vec![service("orders", &instances)]);
    model.take(&model.state.want().clone(), Ok(sample(1, content)));
    model.press(Key::End);
    let shown = lines(&drawn(&model, 1, (80, 10)));
    assert!(shown[8].starts_with("i999 "), "{shown:?}");
    assert!(shown[3].starts_with("i994 "), "{shown:?}");
    assert!(
        shown[9].starts_with("instances of orders: 1000 of 1000"),
        "{shown:?}"
    );
    model.press(Key::Char('/'));
    for character in "i50".chars() {
        model.press(Key::Char(character));
    }
    let shown = lines(&drawn(&model, 1, (80, 20)));
    assert!(
        shown.iter().filter(|line| line.starts_with("i50")).count() == 10,
        "{shown:?}"
    );
    assert_eq!(shown[19], "/i50▏");
}
