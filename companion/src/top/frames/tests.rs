use std::time::Duration;

use super::*;
use crate::top::fixtures::{instance, model, sample, service, want};
use crate::top::sample::{Content, View};

#[test]
fn a_frame_has_all_rows_and_columns_however_long() {
    let mut model = model(&[]);
    let (long, wide) = ("x".repeat(200), "注文\x1b[2J");
    let services = vec![service(&long, &[instance("a", 7)]), service(wide, &[])];
    let content = Content::Services(services);
    model.take(&want(View::Services), Ok(sample(1, content)));
    let screen = model.screen(Duration::from_secs(1));
    let first = text(&screen, false);
    let lines: Vec<&str> = first.lines().collect();
    assert_eq!(
        lines[0],
        "unit east, leader, ready  2025-11-29T07:06:41Z  services"
    );
    assert!(
        lines[1].starts_with("SERVICE ") && lines[1].ends_with("WIRING"),
        "{first}"
    );
    assert!(lines[2].starts_with(&long), "{first}");
    assert!(lines[3].starts_with("注文\\u{1b}[2J "), "{first}");
    assert_eq!(lines.len(), 4);
    assert_eq!(text(&screen, true), format!("\n{first}"));
}

#[test]
fn a_frame_of_old_values_says_so() {
    let mut model = model(&[]);
    let content = Content::Services(vec![service("orders", &[])]);
    model.take(&want(View::Services), Ok(sample(1, content)));
    model.take(&want(View::Services), Err("connection refused".to_owned()));
    let frame = text(&model.screen(Duration::from_secs(2)), false);
    let mut lines = frame.lines();
    assert!(
        lines.next().unwrap().ends_with("  services  OLD"),
        "{frame}"
    );
    assert_eq!(
        lines.next(),
        Some("last answered 1 s ago: connection refused")
    );
}
