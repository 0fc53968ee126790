use axum::http::Method;

use super::*;
use crate::door::need::need;

const TOKENS: &str = r#"
[edge]
token = "e"
roles = ["report"]

[deploy]
token = "d"
roles = ["register"]
services = ["orders", "shop-*"]

[app]
certificate = "app.example"
roles = ["read", "write"]
datasets = ["carts"]

[look]
token = "l"
roles = ["read"]
"#;

fn keyring(text: &str, open_reads: bool) -> Result<Keyring, String> {
    let door = DoorSettings {
        token: Some(Secret::new("root")),
        tokens: Some(Secret::new(text)),
        open_reads,
        ..DoorSettings::default()
    };
    Keyring::read(&door).map_err(|error| error.to_string())
}

fn admitted(keyring: &Keyring, method: &str, path: &str, token: Option<&str>) -> String {
    let method: Method = method.parse().unwrap();
    let need = need(&method, path);
    // A value that is no token is the name in a certificate.
    let (header, names) = match token {
        Some("app.example") => (None, vec!["app.example".to_owned()]),
        token => (token.map(|token| format!("Bearer {token}")), Vec::new()),
    };
    match keyring.admit(header.as_ref().map(String::as_bytes), &names, &need) {
        Ok(Who::Known(credential)) => credential.name.clone(),
        Ok(Who::Stranger) => "stranger".to_owned(),
        Err(Denied::Forbidden(why)) => why,
        Err(denied) => format!("{denied:?}"),
    }
}

#[test]
fn each_does_what_its_roles_say() {
    let keyring = keyring(TOKENS, false).unwrap();
    for (method, path, token, expected) in [
        ("POST", "/v1/reports", Some("e"), "edge"),
        ("GET", "/v1/services/orders/instances", Some("e"), "edge"),
        ("GET", "/v1/services", Some("e"), "edge lacks the role read"),
        (
            "PUT",
            "/v1/data/carts/1",
            Some("e"),
            "edge lacks the role write",
        ),
        (
            "PUT",
            "/v1/services/orders/instances/a",
            Some("d"),
            "deploy",
        ),
        (
            "PUT",
            "/v1/services/shop-1/instances/a",
            Some("d"),
            "deploy",
        ),
        (
            "DELETE",
            "/v1/services/users/instances/a",
            Some("d"),
            "deploy has other services than \"users\"",
        ),
        ("PUT", "/v1/data/carts/1", Some("app.example"), "app"),
        ("GET", "/v1/data/carts/1", Some("app.example"), "app"),
        (
            "PUT",
            "/v1/data/users/1",
            Some("app.example"),
            "app has other datasets than \"users\"",
        ),
        (
            "GET",
            "/v1/conflicts",
            Some("app.example"),
            "app may not read all datasets",
        ),
        (
            "GET",
            "/v1/services/users/instances",
            Some("app.example"),
            "app",
        ),
        ("GET", "/v1/data/users/1", Some("l"), "look"),
        ("GET", "/metrics", Some("l"), "look"),
        (
            "POST",
            "/v1/compact",
            Some("l"),
            "look lacks the role admin",
        ),
        ("POST", "/v1/compact", Some("root"), "admin"),
        ("PUT", "/v1/data/users/1", Some("root"), "admin"),
        ("POST", "/v1/reports", Some("x"), "Wrong"),
        ("POST", "/v1/reports", None, "Unknown"),
        ("GET", "/v1/services", None, "Unknown"),
        ("GET", "/readyz", None, "stranger"),
        ("GET", "/readyz", Some("e"), "edge"),
        ("GET", "/v1/services/orders", Some("d"), "deploy"),
    ] {
        assert_eq!(
            admitted(&keyring, method, path, token),
            expected,
            "{method} {path}"
        );
    }
}

#[test]
fn reads_stay_open_only_if_the_settings_say_so_and_not_with_a_wrong_token() {
    let keyring = keyring(TOKENS, true).unwrap();
    assert_eq!(admitted(&keyring, "GET", "/v1/services", None), "stranger");
    assert_eq!(
        admitted(&keyring, "GET", "/v1/services", Some("x")),
        "Wrong"
    );
    assert_eq!(admitted(&keyring, "POST", "/v1/reports", None), "Unknown");
    let lost = Keyring {
        is_needed: true,
        ..Keyring::default()
    };
    assert_eq!(admitted(&lost, "POST", "/v1/compact", None), "Unknown");
    let nobody = Keyring::default();
    assert_eq!(admitted(&nobody, "POST", "/v1/compact", None), "stranger");
}

#[test]
fn the_scheme_is_read_in_any_case() {
    for (header, token) in [
        ("Bearer t", Some("t")),
        ("bearer t", Some("t")),
        ("BEARER  t ", Some("t")),
        ("Bearert", None),
        ("Bearer", None),
        ("Bearer  ", None),
        ("Basic t", None),
        ("", None),
    ] {
        let found = bearer(header.as_bytes());
        assert_eq!(found, token.map(str::as_bytes), "{header:?}");
    }
}

#[test]
fn a_file_that_breaks_a_rule_is_refused_without_its_tokens() {
    for (text, error) in [
        (
            "[a]\ntoken = \"  \"\nroles = [\"read\"]",
            "tokens: a: token: must be 1 to 4096",
        ),
        ("[a]\ntoken = \"s3cret\"", "tokens: a: must have roles"),
        (
            "[a]\ntoken = \"s3cret\"\nroles = []",
            "tokens: a: roles: must be a list",
        ),
        (
            "[a]\ntoken = \"s3cret\"\nroles = [\"wirte\"]",
            "tokens: a: roles: \"wirte\": must be some of report, register, read, write, admin",
        ),
        (
            "[a]\ntokn = \"s3cret\"\nroles = [\"read\"]",
            "tokens: a: tokn: unknown field; did you mean token?",
        ),
        (
            "[a]\nroles = [\"read\"]",
            "tokens: a: must have either token or certificate",
        ),
        (
            "[a]\ntoken = \"root\"\nroles = [\"read\"]",
            "tokens: a: must differ from the others",
        ),
        (
            "[admin]\ntoken = \"s3cret\"\nroles = [\"read\"]",
            "tokens: admin: must have another name",
        ),
        ("a = \"s3cret\"", "tokens: a: must be a table"),
        ("# none\n", "tokens: must have at least one token"),
        ("\n[a]\ntoken = s3cret", "tokens: line 3: "),
    ] {
        let said = keyring(text, false).unwrap_err();
        assert!(said.starts_with(error), "{text}: {said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}
