//! One thing broken in a shipped file, for each finding that an Envoy's configuration can have.

mod exposure;
mod health;
mod routes;
mod wiring;

use super::*;

pub(super) struct Seed {
    pub(super) code: Code,
    file: &'static str,
    break_it: fn(&mut Value),
    /// The place of the finding, and a part of its text.
    path: &'static str,
    seen: &'static str,
}

const ROUTE: &str = "listener ingress, virtual host all, route prefix /";
const FILTER: &str = "listener ingress, http filter unitring";

fn seed(
    code: Code,
    file: &'static str,
    path: &'static str,
    seen: &'static str,
    break_it: fn(&mut Value),
) -> Seed {
    Seed {
        code,
        file,
        break_it,
        path,
        seen,
    }
}

/// All of them, but [`Code::Unseen`], which a test below has.
pub(super) fn all() -> impl Iterator<Item = Seed> {
    wiring::all()
        .into_iter()
        .chain(routes::all())
        .chain(health::all())
        .chain(exposure::all())
}

#[test]
fn each_fault_has_its_finding_and_no_other() {
    for seed in all() {
        let mut json = shipped(seed.file);
        (seed.break_it)(&mut json);
        let found = found(&json);
        let told = format!("{} in {}: {found:#?}", seed.code.as_str(), seed.file);
        assert_eq!(codes(&found), BTreeSet::from([seed.code]), "{told}");
        let finding = found.iter().find(|one| one.code == seed.code).unwrap();
        assert_eq!(finding.path, seed.path, "{told}");
        assert!(finding.seen.contains(seed.seen), "{told}");
        assert!(
            !finding.mend.is_empty() && !told.contains("secret"),
            "{told}"
        );
    }
}

#[test]
fn a_part_that_comes_later_is_said_to_be_unseen() {
    let mut json = shipped("envoy.yaml");
    unset(&mut json, MANAGER, "route_config");
    set(
        &mut json,
        MANAGER,
        "rds",
        json!({"route_config_name": "web"}),
    );
    set(
        &mut json,
        "",
        "dynamic_resources",
        json!({"lds_config": {}, "cds_config": {}}),
    );
    let found = found(&json);
    let seen: Vec<(&str, &str)> = found
        .iter()
        .map(|one| (one.code.as_str(), one.seen.as_str()))
        .collect();
    let expected = [
        ("UR0003", "clusters come by CDS"),
        ("UR0003", "listeners come by LDS"),
        ("UR0003", "the routes web come by RDS"),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn an_access_log_of_fields_that_a_filter_sets_or_may_set_is_as_it_should_be() {
    let changes: [fn(&mut Value); 2] = [
        |json| set(json, &settings(), "access_log", json!(true)),
        |json| {
            let later =
                json!([{"name": "unitring", "config_discovery": {"config_source": {"ads": {}}}}]);
            set(json, MANAGER, "http_filters", later);
        },
    ];
    for change in changes {
        let mut json = shipped("envoy.yaml");
        set(&mut json, MANAGER, "access_log", wiring::access_log());
        change(&mut json);
        let found = found(&json);
        assert_eq!(codes(&found), BTreeSet::new(), "{found:#?}");
    }
}
