//! The text of `/metrics`, and its page in docs/.

use super::*;
use crate::loads::samples::finding;

#[test]
fn the_text_ends_once_and_shows_each_instance_with_its_labels() {
    let metrics = Metrics::default();
    metrics.reports.inc();
    let shown = Shown {
        service: "a \"b\" {é}|\\".parse().unwrap(),
        instance: "a\"b".parse().unwrap(),
        calls: 7,
        failures: 3,
        updates: 40,
        update_bytes: 41,
        updates_refused: 42,
        updates_dropped: 43,
        updates_per_s: 4.5,
        in_flight: 2,
    };
    let found = Miswired {
        service: "a \"b\"".parse().unwrap(),
        reporter: "e1".parse().unwrap(),
        findings: vec![finding("steer_header")],
    };
    let text = metrics.text(&[shown], &[found], &BTreeMap::new()).unwrap();
    assert!(text.contains("unitring_reports_total 1\n"), "{text}");
    let line = r#"unitring_instance_calls_total{service="a \"b\" {é}|\\",instance="a\"b"} 7"#;
    assert!(text.lines().any(|found| found == line), "{text}");
    let line = r#"unitring_instance_failures_total{service="a \"b\" {é}|\\",instance="a\"b"} 3"#;
    assert!(text.lines().any(|found| found == line), "{text}");
    for (name, value) in [
        ("updates_total", "40"),
        ("update_bytes_total", "41"),
        ("updates_refused_total", "42"),
        ("updates_dropped_total", "43"),
        ("updates_per_second", "4.5"),
    ] {
        let of = |line: &str| {
            line.starts_with(&format!("unitring_instance_{name}{{"))
                && line.ends_with(&format!("}} {value}"))
        };
        assert!(text.lines().any(of), "{name}: {text}");
    }
    let line = r#"unitring_wiring_findings{service="a \"b\"",kind="steer_header"} 1"#;
    assert!(text.lines().any(|found| found == line), "{text}");
    assert_eq!(text.matches("# EOF").count(), 1);
}

const HEAD: &str = "# Metrics

What `GET /metrics` of a companion shows, in Prometheus' format. A test holds this page to the program. The stats of the
filter are Envoy's: [settings.md](settings.md#stats).

## With labels

| metric | type | labels | meaning |
|---|---|---|---|
| `unitring_instance_calls_total` | counter | `service`, `instance` | attempts sent to the instance, over all Envoys |
| `unitring_instance_failures_total` | counter | `service`, `instance` | failed attempts among them |
| `unitring_instance_updates_total` | counter | `service`, `instance` | data updates that it announced |
| `unitring_instance_update_bytes_total` | counter | `service`, `instance` | bytes of their values |
| `unitring_instance_updates_refused_total` | counter | `service`, `instance` | announcements that were refused: malformed, too large, or not allowed |
| `unitring_instance_updates_dropped_total` | counter | `service`, `instance` | updates that did not reach the companion in time |
| `unitring_instance_updates_per_second` | gauge | `service`, `instance` | data updates per second over the last report interval of each Envoy, summed |
| `unitring_instance_in_flight` | gauge | `service`, `instance` | requests in flight on it, over all Envoys |
| `unitring_updates_total` | counter | `outcome` | data updates that filters sent: `applied`; `repeated`: applied before, or overtaken by a later one; `refused` for good; `failed`, and may be sent again |
| `unitring_wiring_findings` | gauge | `service`, `kind` | Envoys whose filter reports this mistake in its wiring |
| `unitring_unit_link_up` | gauge | `unit` | 1 while the link to that unit is up |
| `unitring_unit_confirmed_ops` | gauge | `unit` | ops that the broker confirmed for it |
| `unitring_unit_missing_ops` | gauge | `unit` | ops that it has and this unit lacks, at the last comparison |
| `unitring_unit_diverged_buckets` | gauge | `unit` | buckets that differed then |
| `unitring_unit_clock_skew_seconds` | gauge | `unit` | how far its clock is ahead of this one |
| `unitring_unit_lag_seconds` | gauge | `unit`, `quantile` | how long its last changes took to be here: median and 99th percentile |

At most INSTANCES instances and FINDINGS pairs of service and kind are shown; the metrics `unitring_instances_hidden` and
`unitring_findings_hidden` count the rest. Only the leader of a unit has links.

## Without labels

| metric | type | meaning |
|---|---|---|
";

#[test]
fn the_page_of_the_metrics_is_what_the_program_shows() {
    let numbers = [
        ("INSTANCES", INSTANCES_SHOWN_MAX),
        ("FINDINGS", FINDINGS_SHOWN_MAX),
    ];
    let mut page = HEAD.to_owned();
    for (name, number) in numbers {
        page = page.replace(name, &number.to_string());
    }
    let text = Metrics::default().text(&[], &[], &BTreeMap::new()).unwrap();
    let helps: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '))
        .collect();
    let mut rows = Vec::new();
    for line in text.lines() {
        let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        let suffix = if kind == "counter" { "_total" } else { "" };
        match helps.get(name) {
            // One with a label is among the others that have some.
            Some(help) if !page.contains(&format!("| `{name}{suffix}` | {kind} |")) => {
                let help = help.trim_end_matches('.');
                rows.push(format!("| `{name}{suffix}` | {kind} | {help} |\n"));
            }
            _ => assert!(
                page.contains(&format!("| `{name}{suffix}` | {kind} |")),
                "{name}"
            ),
        }
    }
    rows.sort();
    page.push_str(&rows.concat());
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("RENEW").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == page,
        "docs/metrics.md is stale: RENEW=1 cargo test -p unitring the_page_of"
    );
}
