use super::*;

const COLUMNS: [Column; 3] = [
    Column::text("name", "NAME"),
    Column::number("calls", "CALLS"),
    Column::text("state", "STATE"),
];

fn row(name: &str, calls: Option<u64>, state: &str) -> Row {
    Row {
        id: name.to_owned(),
        service: None,
        cells: vec![
            Cell::text(name),
            Cell::or_nothing(calls, Cell::count),
            Cell::text(state),
        ],
    }
}

fn table() -> Table {
    Table {
        columns: COLUMNS.to_vec(),
        rows: vec![
            row("b", Some(9), "ok"),
            row("c", None, "ok"),
            row("a", Some(10), "Draining"),
            row("d", Some(9), "ok"),
        ],
        ..Table::default()
    }
}

fn names(filter: &str, column: &'static str, is_reversed: bool) -> String {
    let mut table = table();
    let sort = Sort {
        column,
        is_reversed,
    };
    table.arrange(filter, sort);
    table.rows.iter().map(|row| row.id.as_str()).collect()
}

#[test]
fn rows_are_ordered_by_any_column_both_ways_and_what_is_unknown_is_last() {
    assert_eq!(names("", "name", false), "abcd");
    assert_eq!(names("", "name", true), "dcba");
    // As numbers: 10 is more than 9.
    assert_eq!(names("", "calls", false), "abdc");
    assert_eq!(names("", "calls", true), "bdac");
    assert_eq!(names("", "no such column", false), "abcd");
}

#[test]
fn the_filter_leaves_rows_with_the_text_in_any_cell_and_any_case() {
    assert_eq!(names("DRAIN", "name", false), "a");
    assert_eq!(names("9", "name", false), "bd");
    assert_eq!(names("nothing has it", "name", false), "");
}

#[test]
fn a_cell_is_one_line_of_visible_characters() {
    let cell = Cell::text("a\x1b[2J\nb\u{202e}c");
    assert_eq!(cell.text, "a\\u{1b}[2J\\u{a}b\\u{202e}c");
}

#[test]
fn a_rate_has_a_decimal_while_it_is_small_and_is_never_less_than_nothing() {
    let text = |rate| Cell::rate(rate).text;
    assert_eq!(text(Some(0.04)), "0.0");
    assert_eq!(text(Some(99.94)), "99.9");
    assert_eq!(text(Some(99.96)), "100");
    assert_eq!(text(Some(-0.0)), "0.0");
    assert_eq!(text(Some(-7.0)), "0.0");
    assert_eq!(text(Some(f64::NAN)), "0.0");
    assert_eq!(text(None), "-");
}

#[test]
fn a_text_is_cut_by_the_columns_that_it_takes() {
    assert_eq!(clip("orders", 6), "orders");
    assert_eq!(clip("orders", 5), "orde…");
    // Each of these takes two columns.
    assert_eq!(clip("注文注文", 8), "注文注文");
    assert_eq!(clip("注文注文", 7), "注文注…");
    assert_eq!(clip("注文注文", 6), "注文…");
    assert_eq!(clip("orders", 1), "…");
    assert_eq!(clip("orders", 0), "");
}

#[test]
fn texts_give_way_to_numbers_and_the_last_columns_go_where_there_is_no_room() {
    let mut table = table();
    table.rows.push(row(&"x".repeat(255), Some(1), "ok"));
    let state = "Draining".len();
    // The remaining width goes to cells that were cut.
    assert_eq!(table.widths(300), [255, 6, state]);
    assert_eq!(table.widths(100), [100 - 6 - state - 4, 6, state]);
    assert_eq!(table.widths(60), [60 - 6 - state - 4, 6, state]);
    assert_eq!(table.widths(30), [22, 6]);
    assert_eq!(table.widths(20), [20]);
    assert_eq!(table.widths(3), [3]);
    assert_eq!(table.widths(0), [0]);
    assert!(Table::default().widths(80).is_empty());
}
