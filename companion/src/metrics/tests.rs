//! The text of `/metrics`, and its page in docs/.

use std::collections::BTreeSet;

use super::*;
use crate::loads::samples::finding;

const HOSTILE: &str = "a \"b\" {é}|\\";

fn instance() -> ShownInstance {
    ShownInstance {
        service: HOSTILE.parse().unwrap(),
        instance: "a\"b".parse().unwrap(),
        address: "10.0.0.1:80".to_owned(),
        healthy: true,
        draining: false,
        calls: 7,
        failures: 3,
        updates: 40,
        update_bytes: 41,
        updates_refused: 42,
        updates_dropped: 43,
        updates_per_s: 4.5,
        in_flight: 2,
        update_load: 1,
        capacity: Some(16),
        share: Some(0.25),
    }
}

fn miswired() -> Miswired {
    Miswired {
        service: "a \"b\"".parse().unwrap(),
        reporter: "e1".parse().unwrap(),
        findings: vec![finding("steer_header")],
    }
}

/// A page on which every family has a sample.
fn full(metrics: &Metrics) -> String {
    let unit: UnitId = "west".parse().unwrap();
    let link = ShownLink {
        missing_ops: Some(1),
        diverged_buckets: Some(2),
        clock_skew_ms: Some(-1_500),
        ..ShownLink::default()
    };
    metrics.unit_lag_seconds.took(&unit, std::iter::once(20));
    let took = std::time::Duration::from_millis(2);
    let route = Some("/v1/data/{dataset}/{*key}");
    metrics
        .request_duration_seconds
        .took("PUT", route, 201, took);
    metrics.took_fallbacks(
        &HOSTILE.parse().unwrap(),
        &"e1".parse().unwrap(),
        5,
        (0, u64::MAX),
    );
    let services = [ShownService {
        service: HOSTILE.parse().unwrap(),
        reporters: 1,
    }];
    metrics
        .text(&Seen {
            instances: &[instance()],
            services: &services,
            found: &[miswired()],
            traces: true,
            has_peers: true,
            links: Some(&BTreeMap::from([(unit, link)])),
            has_group: true,
            watches_group: true,
            log: Some(LogSize {
                bytes: 230,
                entries: 1,
                oldest_ms: Some(0),
            }),
            group_memory_ratio: Some(0.5),
            now_ms: 0,
        })
        .unwrap()
}

#[test]
fn each_instance_is_shown_with_its_labels_by_the_new_and_the_old_name() {
    let metrics = Metrics::default();
    metrics.reports.inc();
    let text = full(&metrics);
    let service = r#"service="a \"b\" {é}|\\""#;
    let lines = [
        "unitring_companion_reports_total 1".to_owned(),
        "unitring_reports_total 1".to_owned(),
        format!(r#"unitring_companion_instance_calls_total{{{service},upstream="a\"b"}} 7"#),
        format!(r#"unitring_instance_calls_total{{{service},instance="a\"b"}} 7"#),
        format!(r#"unitring_companion_instance_healthy{{{service},upstream="a\"b"}} 1"#),
        format!(r#"unitring_companion_instance_capacity{{{service},upstream="a\"b"}} 16"#),
        format!(r#"unitring_companion_instance_share_ratio{{{service},upstream="a\"b"}} 0.25"#),
        format!(
            r#"unitring_companion_instance_updates_per_second{{{service},upstream="a\"b"}} 4.5"#
        ),
        format!("unitring_companion_service_reporters{{{service}}} 1"),
        r#"unitring_companion_wiring_findings{service="a \"b\"",kind="steer_header"} 1"#.to_owned(),
        r#"unitring_companion_unit_clock_skew_seconds{unit="west"} -1.5"#.to_owned(),
        r#"unitring_companion_unit_lag_seconds_bucket{le="0.025",unit="west"} 1"#.to_owned(),
        "unitring_group_memory_percent 50".to_owned(),
    ];
    for line in lines {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[test]
fn what_a_companion_does_not_have_it_does_not_show() {
    let text = Metrics::default().text(&Seen::default()).unwrap();
    for absent in ["group_", "link_up", "outbox_", "unit_", "quantile"] {
        assert!(!text.contains(absent), "{absent}: {text}");
    }
    let leader = "unitring_companion_leader 0";
    assert!(text.lines().any(|line| line == leader), "{text}");
}

#[test]
fn a_client_can_invent_neither_routes_nor_methods() {
    let metrics = Metrics::default();
    let took = std::time::Duration::ZERO;
    for number in 0..100_u16 {
        let method = format!("M{number}");
        metrics
            .request_duration_seconds
            .took(&method, None, 400, took);
    }
    let text = metrics.text(&Seen::default()).unwrap();
    let count = r#"_count{method="other",route="other",code="4xx"} 100"#;
    assert!(text.contains(count), "{text}");
    assert_eq!(text.matches("_seconds_count{").count(), 1);
}

/// A family as the page shows it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Family {
    name: String,
    kind: String,
    labels: BTreeSet<String>,
    help: String,
}

fn families(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').unwrap().1;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.push(Family {
                name: name.to_owned(),
                kind: kind.to_owned(),
                labels: BTreeSet::new(),
                help: help.trim_end_matches('.').to_owned(),
            });
        } else if let Some((_, labels)) = line.split_once('{') {
            let labels = labels.split('"').step_by(2);
            let names = labels.filter_map(|part| part.trim_matches(',').strip_suffix('='));
            let family = families.last_mut().unwrap();
            family.labels.extend(names.map(str::to_owned));
        }
    }
    families
}

#[test]
fn every_family_has_one_name_one_help_and_a_name_of_the_contract() {
    let text = full(&Metrics::default());
    let families = families(&text);
    let names: BTreeSet<&str> = families.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(names.len(), families.len(), "a family twice: {text}");
    for family in &families {
        assert!(!family.help.is_empty(), "{family:?}");
        let is_total = family.name.ends_with("_total");
        assert_eq!(is_total, family.kind == "counter", "{family:?}");
        if let Some(name) = family.name.strip_prefix("unitring_companion_") {
            assert!(!family.labels.contains("instance"), "{family:?}");
            assert!(
                !name.ends_with("_ms") && !name.ends_with("_percent"),
                "{name}"
            );
        } else if family.name.starts_with("unitring_") {
            assert!(family.help.starts_with("Deprecated"), "{family:?}");
        }
    }
}

const BEGIN: &str = "<!-- companion: a test writes this table -->\n";
const END: &str = "<!-- end of the companion's -->\n";

#[test]
fn the_page_of_the_metrics_is_what_the_program_shows() {
    let mut table = "\n| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    let mut all = families(&full(&Metrics::default()));
    all.retain(|family| !family.help.starts_with("Deprecated"));
    all.sort();
    for Family {
        name,
        kind,
        mut labels,
        help,
    } in all
    {
        labels.remove("le");
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        table.push_str(&format!(
            "| `{name}` | {kind} | {} | {help} |\n",
            labels.join(", ")
        ));
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let there = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = there.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let page = format!("{before}{BEGIN}{table}\n{END}{after}");
    if std::env::var_os("RENEW").is_some() {
        std::fs::write(&file, &page).unwrap();
    } else {
        assert!(
            there == page,
            "docs/metrics.md is stale: RENEW=1 cargo test -p unitring the_page_of"
        );
    }
    for (name, number) in [
        ("INSTANCES_SHOWN_MAX", INSTANCES_SHOWN_MAX),
        ("FINDINGS_SHOWN_MAX", FINDINGS_SHOWN_MAX),
    ] {
        let thousands = format!("{},{:03}", number / 1000, number % 1000);
        assert!(page.contains(&thousands), "{name} {thousands}");
    }
}
